"""Where every number comes from: hashes, manifests, atomic writes, and who may write to a folder."""

from __future__ import annotations

import ast
import getpass
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from filelock import FileLock, Timeout

from braintransfer.errors import BadInput

#: Modules that cannot change a value that a stage writes: pictures, tables, the door, and the plumbing whose values
#: (parameters, hashes) stand in the manifest anyway. `compare` is the one stage that makes tables and statistics.
PRESENTATION = frozenset(
    {"figures", "tables", "stage_views", "widgets", "cli", "book", "settings", "provenance", "errors", "plan"}
)
COMPARISON_ONLY = frozenset({"statistics", "claims"})
PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy", "scipy", "nibabel", "pandas")


def project_root() -> Path:
    """The folder that holds `_config.yml` and `notebooks/`: the one we are in, or else the one of this package."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents):
        if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise BadInput("not inside the project: no folder above holds _config.yml and notebooks/; cd into your clone")


def in_project(path: str | Path) -> Path:
    """`path` as it is when absolute, else from the project's root (notebooks may be run from any folder)."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else project_root() / path


# ---------------------------------------------------------------------------------------------------------- hashes
def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _modules_of(source: str) -> set[str]:
    """Names of our modules ("store", "recipes.samples") that a piece of source imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "braintransfer":
            inner = node.module.split(".")[1:]
            names.add(".".join(inner))
            names.update(".".join([*inner, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(a.name.partition(".")[2] for a in node.names if a.name.startswith("braintransfer."))
    return names


def _module_file(name: str) -> Path | None:
    base = Path(__file__).parent.joinpath(*name.split(".")) if name else Path(__file__).parent
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if name and path.is_file():
            return path
    return None


def code_hash(notebook: Path) -> str:
    """Hash of what a stage computes with: its code cells and every module of ours that they lead to.

    Docstrings, comments, prose and the parameters cell do not count (the parameters stand in the manifest), nor do the
    modules that only present. So an edit of prose never retrains, and an edit of code redoes what depends on it.
    """
    ignored = PRESENTATION if notebook.stem == "compare" else PRESENTATION | COMPARISON_ONLY
    if notebook.stem == "compare":
        ignored = ignored - {"tables"}
    book = nbformat.read(notebook, as_version=4)
    cells = [c.source for c in book.cells if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])]
    parts = {"notebook": [_without_docstrings(cell) for cell in cells]}
    queue = sorted(set().union(*(_modules_of(cell) for cell in cells)))
    while queue:
        name = queue.pop()
        path = _module_file(name)
        if path is None or name in parts or name.split(".")[0] in ignored:
            continue
        source = path.read_text(encoding="utf-8")
        parts[name] = [_without_docstrings(source)]
        queue.extend(sorted(_modules_of(source)))
        if "." in name:
            queue.append(name.rpartition(".")[0])
    return digest(parts)


def files_digest(paths: Iterable[Path], root: Path, *, content_below: int = 2 * 2**30) -> str:
    """Digest of input files: names and contents, or names and sizes when together they hold `content_below` bytes or more."""
    paths = sorted(p for p in paths if p.is_file())
    total = sum(p.stat().st_size for p in paths)
    rows = [
        [p.relative_to(root).as_posix(), sha256_file(p) if total < content_below else p.stat().st_size] for p in paths
    ]
    return digest(rows)


# ---------------------------------------------------------------------------------------------------- atomic writes
def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or none of it: to a neighbour first, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise BadInput(
            f"cannot write {path}: {error.strerror}; free space or choose another folder, then repeat"
        ) from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, value: Any) -> None:
    atomic_write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


#: Under this name a JSON file of a run holds the hash of all the rest of it.
SEAL = "sha256_of_the_rest"


def sealed(value: dict[str, Any]) -> str:
    """`value` as JSON text that holds its own hash; in a notebook, the hash stands in its metadata."""
    holder = _holder(value)
    holder.pop(SEAL, None)
    holder[SEAL] = digest(value)
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def broken_seal(path: Path) -> str | None:
    """What is wrong with a file that `sealed` wrote, to the byte; None when nothing is, or when it was never sealed."""
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        holder = _holder(value)
        # a key that is nearly the seal's is a seal with a wrong byte; files of older versions have none
        near = [k for k in holder if len(k) == len(SEAL) and sum(a != b for a, b in zip(k, SEAL, strict=True)) <= 1]
        if near and sealed(value) != text:
            return f"{path} is not what was written there: its own hash does not fit"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        return f"{path} is torn ({type(error).__name__})"
    return None


def _holder(value: dict[str, Any]) -> dict[str, Any]:
    return value["metadata"] if "nbformat" in value else value


def write_table(path: Path, frame: Any, *, sort_by: list[str] | None = None) -> None:
    """A DataFrame as CSV (gzip when the name ends so): LF, values as %.6g, NaN empty; equal tables are equal bytes."""
    if sort_by:
        frame = frame.sort_values(sort_by, kind="stable")
    text = frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    if path.suffix == ".gz":
        import gzip

        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as file:
            file.write(text.encode())
        atomic_write_bytes(path, buffer.getvalue())
    else:
        atomic_write_text(path, text)


# ------------------------------------------------------------------------------------------------- what is not published
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|(API|ACCESS|AUTH)_?KEY", re.IGNORECASE)


def user_name() -> str:
    """Who runs this, for places and for taking it out of them; a container may have a number that no name belongs to."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}" if hasattr(os, "getuid") else "user"


def scrubbed(value: Any, data: str = "") -> Any:
    """JSON-able `value` without a word of whose machine made it: for what a run publishes (notebooks, manifests).

    The project's folder becomes `.`, the data folder `(data)`, the home folder `~`, the user's name in other paths `(user)`;
    values of environment variables that are called like secrets become `(hidden)`. Pictures are left as they are.
    """
    words = {value: "(hidden)" for name, value in os.environ.items() if _SECRET.search(name) and _looks_secret(value)}
    places = {str(project_root()): ".", data: "(data)", str(Path.home()): "~"}
    words |= {place: name for place, name in places.items() if len(place) > 1}
    longest_first = sorted(words, key=len, reverse=True)
    private = re.compile("|".join(rf"{re.escape(word)}(?![\w-])" for word in longest_first))
    user = re.compile(rf"(?<=[/\\]){re.escape(user_name())}(?=[/\\])")

    def clean(item: Any) -> Any:
        if isinstance(item, str):
            return user.sub("(user)", private.sub(lambda found: words[found[0]], item))
        if isinstance(item, Mapping):
            return {k: v if str(k).startswith("image/") else clean(v) for k, v in item.items()}
        return [clean(part) for part in item] if isinstance(item, list | tuple) else item

    return clean(value)


def _looks_secret(value: str) -> bool:
    """Not a plain word such as "disabled", which would be hidden wherever it stands."""
    return len(value) >= 8 and not value.isalpha()


# ---------------------------------------------------------------------------------------------------------- manifests
MANIFEST = "manifest.json"
#: Where a training that is under way writes down where it is; taken away when its stage is done.
CHECKPOINT = "training.safetensors"
#: Files of a stage folder that are no outputs of it: the executed notebook is for reading and holds times.
_NOT_OUTPUT = {MANIFEST, CHECKPOINT, ".lock", ".running", "error.txt"}
#: In the manifest of a stage that was packed elsewhere: the names of its outputs that did not travel (weights, pictures).
LEFT = "left_behind"
#: Parameters that say where things lie; they change no value and stand in no manifest.
WHERE = ("read_from", "write_to", "data")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in `folder`, or None when there is none or it is torn (a stage without one is not done)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(manifest, dict) or manifest.get("status") != "done":
        return None
    tables = [manifest.get(name, {}) for name in ("outputs", "inputs", "parameters")]
    return manifest if "outputs" in manifest and all(isinstance(table, dict) for table in tables) else None


def stage_key(stage: str, parameters: Mapping[str, Any], code: str, inputs: Mapping[str, str]) -> str:
    """What decides whether a stage has to be done again: its name, parameters, code and inputs, not where they lie.

    Nor how many seeds and folds: each training has its own in `inputs` of its cell, so more of them redo none that is there.
    """
    kept = {k: v for k, v in parameters.items() if k not in (*WHERE, "seeds", "folds")}
    return digest({"stage": stage, "parameters": kept, "code": code, "inputs": dict(inputs)})


def broken_output(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """The first output whose bytes are not those that the manifest records, or None; some may have been left elsewhere."""
    elsewhere = manifest.get(LEFT, ())
    for name, sha in manifest["outputs"].items():
        path = folder / name
        try:
            if not path.is_file() and name in elsewhere:
                continue
            if not path.is_file():
                return f"{path} is missing"
            if sha256_file(path) != sha:
                return f"{path} is not what {folder / MANIFEST} records"
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            return f"{path} cannot be read ({error})"
    return None


def is_done(folder: Path, key: str) -> bool:
    """True when `folder` holds this very stage: same key, and every output as recorded."""
    manifest = read_manifest(folder)
    return manifest is not None and manifest.get("key") == key and broken_output(folder, manifest) is None


def content_digest(folder: Path) -> str:
    """Digest of what a finished stage wrote, for the stages that read it. BadInput when it is not finished."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise BadInput(
            f"{folder} is not finished (no whole {MANIFEST}); run the stage that makes it first: braintransfer status"
        )
    return digest(manifest["outputs"])


def claims_hash() -> str:
    """Hash of the rules that the claims are judged by, so that every manifest shows which ones stood when it was written."""
    rules = project_root() / "notebooks" / "claims.yaml"
    return sha256_file(rules) if rules.is_file() else ""


def versions() -> dict[str, str]:
    """Name -> version of what this process computes with.

    instructions: the vector instructions of PyTorch's own sums and, where it is told, of oneDNN's, as a training's last bits
    hang on both; absent from a stage that computes without PyTorch.
    """
    found = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    if "torch" in sys.modules:
        told = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
        instructions = sys.modules["torch"].backends.cpu.get_cpu_capability()
        found["instructions"] = instructions + (f", oneDNN at most {told}" if told else "")
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: ru_maxrss would count what the parent held when it started this process
        line = next((x for x in status.read_text().splitlines() if x.startswith("VmHWM:")), "")
        if line:
            return int(line.split()[1]) / 2**10
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if platform.system() == "Darwin" else 2**10)
    except ImportError:  # Windows has no resource module
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20


def _outputs_of(folder: Path) -> list[Path]:
    """Every file below a stage's folder that is an output of it: none of a deeper stage, no notebook, no log."""
    deeper = {m.parent for m in folder.rglob(MANIFEST) if m.parent != folder}
    return [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.name not in _NOT_OUTPUT
        and p.suffix not in (".ipynb", ".part", ".log")
        and not any(d in p.parents for d in deeper)
    ]


def start_anew(folder: Path) -> None:
    """Make a stage's folder ready for its work: what an earlier version of it left goes, its manifest first.

    Otherwise a file that this version does not write would stand among its outputs. A checkpoint stays (it says itself which
    training it belongs to), and so do notebook and logs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in _outputs_of(folder):
        path.unlink()


def write_manifest(
    folder: Path,
    *,
    stage: str,
    key: str,
    parameters: Mapping[str, Any],
    code: str,
    inputs: Mapping[str, str],
    outputs: Iterable[str] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Write `manifest.json`, last and atomically: from here on the stage counts as done.

    outputs: file names relative to `folder`; None takes every file below it that is no part of a deeper stage.
    facts: whatever else a reader may ask for (device, precision, seconds, samples, weights, ...), JSON-able.
    """
    if outputs is None:
        outputs = [p.relative_to(folder).as_posix() for p in _outputs_of(folder)]
    manifest = {
        "status": "done",
        "stage": stage,
        "key": key,
        "parameters": {k: v for k, v in parameters.items() if k not in WHERE},
        "code": code,
        "inputs": dict(inputs),
        "claims": claims_hash(),
        "outputs": {name: sha256_file(folder / name) for name in sorted(outputs)},
        "versions": versions(),
        "peak_memory_mb": round(peak_memory_mb()),
        **facts,
    }
    manifest = scrubbed(manifest, str(parameters.get("data") or ""))
    atomic_write_text(folder / MANIFEST, sealed(manifest))
    return manifest


@contextmanager
def only_writer(folder: Path, *, wait_s: float = 30.0) -> Iterator[None]:
    """Hold the lock of a stage folder. A kernel whose driver was killed lives about two seconds longer: wait for it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise BadInput(f"{folder} is being written by another process; wait for it to end, then repeat") from None
    try:
        yield
    finally:
        lock.release()
