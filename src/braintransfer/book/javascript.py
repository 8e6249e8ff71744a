"""JavaScript of others: npm fetches what package-lock.json pins while the book is built; none of it is in the repository."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

LOCK = "package-lock.json"
#: NiiVue's one file for a plain <script>, inside its package.
NIIVUE = Path("node_modules", "@niivue", "niivue", "dist", "niivue.umd.js")


def install(root: Path, work: Path, *, dev: bool = False) -> tuple[str, str]:
    """Have npm put what the project's lock file pins into the new folder `work`; dev: with what only the tests use.

    Returns ("", ""), or, when that failed, why in words for a page and for a terminal; `work` is gone then.
    """
    npm = shutil.which("npm")
    if npm is None:
        return "there was no Node.js", "npm is not installed (it comes with Node.js)"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("package.json", LOCK):
        shutil.copyfile(root / name, work / name)
    omit = ["--omit=optional", *([] if dev else ["--omit=dev"])]
    command = [npm, "ci", *omit, "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=180, check=False)
        said, failed = done.stderr.strip().splitlines(), done.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        said, failed = [str(error)], True
    if failed:
        shutil.rmtree(work, ignore_errors=True)
        reason = next((line for line in said if line.strip()), "it said nothing")
        return "npm could not fetch it", f"npm could not fetch it ({reason})"
    return "", ""


def fetch_niivue(root: Path, into: Path, report: Callable[[str], None]) -> str:
    """Put NiiVue's script and the licences of all that is in it into `into`; returns "" or, in words for a page, why not.

    The packages are kept in `_build/npm` and fetched anew when the lock file changes.
    """
    work = root / "_build" / "npm"
    if not (root / LOCK).is_file():
        return "there was no package-lock.json"
    kept = work / LOCK
    if not ((work / NIIVUE).is_file() and kept.is_file() and kept.read_bytes() == (root / LOCK).read_bytes()):
        why, said = install(root, work)
        if why:
            report(f"book: no 3-D viewer, a picture instead: {said}")
            return why
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / NIIVUE, into / NIIVUE.name)
    (into / "licences.txt").write_text(_licences(work / "node_modules"), encoding="utf-8")
    return ""


def _licences(packages: Path) -> str:
    """Name, version, licence and licence text of every package, as the packages themselves give them."""
    told = []
    for path in sorted([*packages.glob("[!@.]*/package.json"), *packages.glob("@*/*/package.json")]):
        facts = json.loads(path.read_text(encoding="utf-8"))
        texts = [
            p.read_text(encoding="utf-8", errors="replace") for p in sorted(path.parent.glob("[Ll][Ii][Cc][Ee][Nn]*"))
        ]
        told.append(
            "\n\n".join([f"{facts['name']} {facts['version']}: {facts.get('license', 'see its package')}", *texts])
        )
    return "\n\n----\n\n".join(told) + "\n"
