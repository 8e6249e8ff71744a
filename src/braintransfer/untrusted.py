"""Files that others made: what is read of them before anything that they ask for is run, followed or allocated."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from braintransfer.errors import BadInput

#: A volume or picture that says it is larger is not believed: .4 mm over 256 mm; 8192 x 8192 pixels.
MOST_VOXELS, MOST_PIXELS = 2**28, 2**26
#: How many bytes one byte of a compressed file can stand for at most, by how its name ends; bzip2 makes 46 bytes of 45.9 million
#: that are equal. A header that asks for more than the file can hold is forged or torn.
PACKED = {".gz": 1032, ".mgz": 1032, ".bz2": 2**20}
#: Bytes of text that a YAML file may hold, and how deep its values may lie inside each other.
MOST_YAML, DEEPEST = 2**20, 20
#: Bytes of notes that a NIfTI header may bring along.
MOST_NOTES = 2**24


def read_yaml(path: Path) -> Any:
    """The values of a YAML file: plain text, numbers, lists and tables. BadInput, one line, for anything else.

    Tags are refused (they would make objects), and so are anchors: a few lines of them stand for gigabytes once they are
    printed or checked.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_YAML + 1)
        if len(raw) > MOST_YAML:
            raise BadInput(f"{path}: larger than {MOST_YAML // 2**20} MB; is it the right file?")
        text = raw.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise BadInput(f"{path}: values lie more than {DEEPEST} deep inside each other; write them flat")
            if getattr(event, "anchor", None):
                raise BadInput(f"{path}: anchors (& and *) are not read; write the value where it is used")
        return yaml.safe_load(text)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise BadInput(f"{path}: not readable as YAML ({error}); check indentation and quotes") from None


def as_markdown(text: str) -> str:
    """Markdown that shows just this text, whatever it holds: no HTML, link, role or formula comes of a name in the data."""
    marked = re.sub(r"([\\`*_{}\[\]<>&$~|])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^([-+%#:(=])", r"\\\1", marked)


def inside(name: str) -> str:
    """`name` when it is a relative path or pattern that stays in its folder; ValueError otherwise."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\", "~")) or not name.isprintable() or (parts and ":" in parts[0]):
        raise ValueError("must stay inside the folder of the set: no .., no absolute path")
    return name


def name_of_one(name: str) -> str:
    """`name` when it can be the name of one file; ValueError otherwise."""
    if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise ValueError("cannot be the name of a file: no / and no \\, and it does not start with a dot")
    return name


def check_nifti_notes(path: Path) -> None:
    """ValueError when the notes (extensions) behind a NIfTI header are forged: nibabel would read as many bytes as they say."""
    from nibabel.openers import Opener

    with Opener(str(path)) as file:
        head = file.read(544)
        if len(head) < 352:
            return  # another format, or torn: the reader says so
        order = "<" if head[:4] in (struct.pack("<i", 348), struct.pack("<i", 540)) else ">"
        version = {348: 1, 540: 2}.get(struct.unpack(f"{order}i", head[:4])[0])
        magic = head[344:347] if version == 1 else head[4:7]
        if version is None or magic not in (b"n+1", b"n+2"):
            return
        start = 352 if version == 1 else 544
        first = (
            struct.unpack(f"{order}f", head[108:112])[0]
            if version == 1
            else struct.unpack(f"{order}q", head[168:176])[0]
        )
        if not math.isfinite(first) or first < 0 or (first and first < start) or first > start + MOST_NOTES:
            raise ValueError(f"the header says that voxels start at byte {first:g}")
        if len(head) < start or not head[start - 4]:
            return
        at = start
        file.seek(start)
        while at + 8 <= first:
            size = struct.unpack(f"{order}i", file.read(8)[:4].ljust(4, b"\0"))[0]
            if size < 8 or at + size > first:
                raise ValueError(f"a note in the header says that it is {size} bytes long")
            at += size
            file.seek(at)


def check_size(path: Path, shape: tuple[int, ...], voxel_bytes: int, offset: int) -> None:
    """ValueError when a volume of this shape cannot lie in that file, or is larger than any scan."""
    if any(n < 0 for n in shape) or math.prod(shape[:3]) > MOST_VOXELS:
        raise ValueError(f"the header says {' x '.join(map(str, shape))} voxels")
    size = path.stat().st_size * PACKED.get(path.suffix.lower(), 1)
    if offset < 0 or math.prod(shape) * voxel_bytes + offset > size:
        raise ValueError(f"the header says {' x '.join(map(str, shape))} voxels, more than the file can hold")
