"""Getting open data sets: resumable downloads with checksums, unpacked so that no path leaves the folder."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from braintransfer.errors import BadInput
from braintransfer.recipes.schema import Download, Recipe

_CHUNK = 1 << 20


def get(
    recipe: Recipe, data_root: Path | str, mirror: Path | str | None = None, report: Callable[[str], None] = print
) -> None:
    """Download what is open and unpack it into the set's folder; for other sets say the steps instead.

    `mirror`: a folder that holds the files already (by name); then no network is used. A broken download goes on where it
    stopped when the command is given again. BadInput on a wrong checksum, an unsafe archive or no connection.
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
    for download in recipe.access.files:
        name = PurePosixPath(download.url).name
        if mirror is not None:
            archive = Path(mirror) / name
            if not archive.is_file():
                raise BadInput(f"{archive}: not in the mirror; put {name} there, or leave the mirror out")
        else:
            archive = waiting / name
            fetch(download.url, archive, report)
        _verify(archive, download, mirrored=mirror is not None)
        report(f"{recipe.name}: {name} is whole, unpacking into {folder}")
        if download.unpack:
            unpack(archive, folder, download.strip)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, folder / name)
        if mirror is None:
            archive.unlink()


def fetch(url: str, target: Path, report: Callable[[str], None] = print) -> None:
    """Fetch `url` into `target`, going on from `target.part` when an earlier try stopped there."""
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            total = int(answer.headers.get("Content-Length") or 0) + (have if resumed else 0)
            done, told = (have if resumed else 0), 0
            with part.open("ab" if resumed else "wb") as file:
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if total and done * 10 // total > told:
                        told = done * 10 // total
                        report(f"  {target.name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")
            if total and done < total:
                raise BadInput(f"{url}: stopped after {done} of {total} bytes; give the command again to go on")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is the whole file already
            raise BadInput(f"{url}: the server answers {error.code} {error.reason}; see the recipe's steps") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise BadInput(
            f"{url}: no connection ({error}); try again, or use --mirror with a folder of downloads"
        ) from error
    part.replace(target)


def _verify(archive: Path, download: Download, mirrored: bool) -> None:
    kind, wanted = ("sha256", download.sha256) if download.sha256 else ("md5", download.md5)
    running = hashlib.new(kind, usedforsecurity=False)
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK):
            running.update(chunk)
    if running.hexdigest() != wanted.lower():
        if not mirrored:
            archive.unlink()
        raise BadInput(
            f"{archive}: {kind} is {running.hexdigest()}, not {wanted}; get it again, it is torn or has changed"
        )


def unpack(archive: Path, folder: Path, strip: int = 0) -> None:
    """Unpack a tar or zip archive into `folder`, all of it or nothing. Links and paths that leave the folder are refused."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
        try:
            for name, stream in _members(archive):
                parts = PurePosixPath(name.replace("\\", "/")).parts[strip:]
                if not parts:
                    continue
                if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
                    raise BadInput(f"{archive}: holds {name}, which would leave the folder; do not use this archive")
                target = Path(temporary).joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(stream, file)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise BadInput(f"{archive}: not a whole tar or zip archive ({error}); get it again") from error
        for path in sorted(Path(temporary).rglob("*")):
            if path.is_file():
                final = folder / path.relative_to(temporary)
                final.parent.mkdir(parents=True, exist_ok=True)
                path.replace(final)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    with packed.open(info) as stream:
                        yield info.filename, stream
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                raise BadInput(f"{archive}: holds the link {member.name}; do not use this archive")
            yield member.name, content
