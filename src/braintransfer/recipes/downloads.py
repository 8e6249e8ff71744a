"""Getting open data sets: resumable downloads with checksums, unpacked so that no path leaves the folder."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.client
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import click

from braintransfer.errors import BadInput
from braintransfer.recipes.schema import Download, Recipe

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

_CHUNK = 1 << 20
#: An archive may grow to this many times its size, or to this many bytes if that is more; the disk keeps what is to be kept free.
MOST_TIMES, MOST_AT_LEAST, KEPT_FREE = 100, 100 * 2**20, 2**30
#: Tries in one go, as long as each brings something.
TRIES = 5
#: In the folder of a set: the checksums of the archives that were unpacked there.
UNPACKED = ".unpacked"


def get(
    recipe: Recipe, data_root: Path | str, mirror: Path | str | None = None, report: Callable[[str], None] = print
) -> None:
    """Download what is open and unpack it into the set's folder; for other sets say the steps instead.

    `mirror`: a folder that holds the files already (by name); then no network is used. A broken download goes on where it
    stopped when the command is given again, and archives that were unpacked are not fetched again. BadInput on a wrong
    checksum, an unsafe archive, too little disk or no connection.
    """
    if recipe.access.how == "built-in":
        report(f"{recipe.name}: built in, nothing to get")
        return
    if not recipe.access.files:
        report(f"{recipe.name}: {recipe.title}. Licence: {recipe.licence}. To get it:")
        for number, step in enumerate(recipe.access.steps, 1):
            report(f"  {number}. {step}")
        if recipe.access.url:
            report(f"  See {recipe.access.url}; put the files into {recipe.root(data_root)}")
        return
    waiting = Path(data_root) / ".downloads"
    folder = recipe.root(data_root)
    record = folder / UNPACKED
    report(f"{recipe.name}: {recipe.title}. Licence: {recipe.licence}")
    for download in recipe.access.files:
        name = download.file_name
        done = record.read_text(encoding="utf-8").split() if record.is_file() else []
        if _checksum(download)[1] in done:
            report(f"{name}: unpacked before; delete {record} to get it again")
            continue
        if mirror is not None:
            archive = Path(mirror) / name
            if not archive.is_file():
                raise BadInput(f"{archive}: not in the mirror; put {name} there, or leave the mirror out")
        else:
            archive = waiting / name
            fetch(download.url, archive)
        _verify(archive, download, mirrored=mirror is not None)
        report(f"{name}: checksum is right; unpacking into {folder}")
        if download.unpack:
            unpack(archive, folder, download.strip)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, folder / name)
        record.write_text("\n".join([*done, _checksum(download)[1]]) + "\n", encoding="utf-8")
        if mirror is None:
            archive.unlink()
    report(f"{recipe.name}: all there; look at it with `braintransfer data check {recipe.name}`")


def fetch(url: str, target: Path) -> None:
    """Fetch `url` into `target` with a progress bar, going on from `target.part` where an earlier try stopped.

    A connection that breaks is taken up again at once, up to `TRIES` times as long as each brings something.
    """
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for left in reversed(range(TRIES)):
        before = _size(part)
        try:
            _fetch_rest(url, part)
            break
        except BadInput:
            if not left or _size(part) <= before:
                raise
    part.replace(target)


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _fetch_rest(url: str, part: Path) -> None:
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            done = have if resumed else 0
            total = int(answer.headers.get("Content-Length") or 0) + done
            if total - done > shutil.disk_usage(part.parent).free - KEPT_FREE:
                raise BadInput(f"{url}: is {total / 1e9:.1f} GB, more than is free at {part.parent}; free some")
            bar: ProgressBar[int] = click.progressbar(length=total or None, label=part.stem, show_pos=False)
            with part.open("ab" if resumed else "wb") as file, bar:
                bar.update(done)
                while chunk := answer.read(_CHUNK):
                    if shutil.disk_usage(part.parent).free < KEPT_FREE:  # the server may send more than it said
                        raise BadInput(f"{url}: is more than is free at {part.parent}; free some")
                    file.write(chunk)
                    done += len(chunk)
                    bar.update(len(chunk))
            if total and done < total:
                raise BadInput(f"{url}: stopped after {done} of {total} bytes; give the command again to go on")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is the whole file already
            raise BadInput(f"{url}: the server answers {error.code} {error.reason}; see the recipe's steps") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise BadInput(
            f"{url}: no connection ({error}); give the command again to go on, or use --mirror with a folder of downloads"
        ) from error


def _checksum(download: Download) -> tuple[str, str]:
    return ("sha256", download.sha256.lower()) if download.sha256 else ("md5", download.md5.lower())


def _verify(archive: Path, download: Download, mirrored: bool) -> None:
    kind, wanted = _checksum(download)
    running = hashlib.new(kind, usedforsecurity=False)
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK):
            running.update(chunk)
    if running.hexdigest() != wanted:
        if not mirrored:
            archive.unlink()
        raise BadInput(
            f"{archive}: {kind} is {running.hexdigest()}, not {wanted}; get it again, it is torn or has changed"
        )


def unpack(archive: Path, folder: Path, strip: int = 0) -> None:
    """Unpack a tar or zip archive into `folder`, all of it or nothing.

    BadInput for links, for paths that leave the folder, and for an archive that grows to more than `MOST_TIMES` its size (and
    more than `MOST_AT_LEAST` bytes) or than the disk holds. What counts is what comes out, not what the archive says.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    most = max(MOST_TIMES * archive.stat().st_size, MOST_AT_LEAST)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
        written = 0

        def count(size: int) -> None:
            nonlocal written
            written += size
            if written > most:
                raise BadInput(
                    f"{archive}: unpacks to more than {most / 1e6:.0f} MB, {MOST_TIMES} times its size or more; "
                    "do not use this archive"
                )

        try:
            for name, stream in _members(archive):
                parts = PurePosixPath(name.replace("\\", "/")).parts
                if name.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0]):
                    raise BadInput(f"{archive}: holds {name}, which would leave the folder; do not use this archive")
                count(1024)  # an empty file costs something too
                if not parts[strip:]:
                    continue
                target = Path(temporary).joinpath(*parts[strip:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    while chunk := stream.read(_CHUNK):
                        count(len(chunk))
                        if shutil.disk_usage(temporary).free < KEPT_FREE:
                            raise BadInput(f"{archive}: unpacked it is more than the disk holds; free some at {folder}")
                        file.write(chunk)
        except BadInput:
            raise
        except Exception as error:  # whatever a forged archive makes its reader raise
            raise BadInput(f"{archive}: not a whole tar or zip archive ({error}); get it again") from error
        for path in sorted(Path(temporary).rglob("*")):
            if path.is_file():
                final = folder / path.relative_to(temporary)
                final.parent.mkdir(parents=True, exist_ok=True)
                path.replace(final)


class _Sips:
    """A tar stream that gives no more than `_CHUNK` bytes at a time: tarfile reads a member's notes in one go."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise tarfile.ReadError(f"asks for {size} bytes at once")
        return self._stream.read(size)


def _plain(archive: Path) -> IO[bytes]:
    """The bytes of an archive without its compression."""
    with archive.open("rb") as file:
        start = file.read(3)
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
    opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), open)
    return opener(archive, "rb")  # type: ignore[operator, no-any-return]


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise BadInput(f"{archive}: holds the link {info.filename}; do not use this archive")
                if not info.is_dir():
                    with packed.open(info) as stream:
                        yield info.filename, stream
        return
    with _plain(archive) as stream, tarfile.open(fileobj=_Sips(stream), mode="r:") as tar:  # type: ignore[call-overload]
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # it would keep all that it has seen
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                raise BadInput(f"{archive}: holds the link {member.name}; do not use this archive")
            yield member.name, content
