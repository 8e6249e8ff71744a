"""What a recipe may say: a data set described in data, checked when it is read; and where recipes are found."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from braintransfer import study
from braintransfer.errors import BadInput

Kind = Literal["volumes", "images", "masks", "composited", "semisynthetic", "simulated"]
CELLS = (*study.PRETRAINED_HERE, *study.TARGETS, "background", "photographs", "showcase", "lesion-masks")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Download(_Part):
    """One file to fetch. A checksum is required: what cannot be checked is not unpacked."""

    url: str
    sha256: str = ""
    md5: str = ""
    unpack: bool = True
    #: Leading folders of the archive to drop, as in `tar --strip-components`.
    strip: int = 0

    @model_validator(mode="after")
    def _checked(self) -> Download:
        if not (self.sha256 or self.md5):
            raise ValueError("give sha256 (or md5, where that is all the owner publishes)")
        return self


class Access(_Part):
    """How to get the data."""

    how: Literal["open", "register", "built-in", "own"]
    url: str = ""
    size: str = ""
    steps: tuple[str, ...] = ()
    files: tuple[Download, ...] = ()


class Patterns(_Part):
    """File patterns relative to the set's folder; `{subject}`, `{session}`, `{site}`, `{scan}`, `{sample}`, `{label}`,
    `{group}` and `{part}` stand for one piece of a name each. `brain` is a pattern, or `nonzero` for skull-stripped scans."""

    image: tuple[str, ...] = ()
    mask: str = ""
    brain: str = "nonzero"


class SubjectTable(_Part):
    """A table of people: which column holds what. With `scan`, rows are found by scan and name the person; else by person."""

    file: str
    subject: str = "subject"
    scan: str = ""
    age: str = ""
    site: str = ""
    separator: str = "\t"


class SampleTable(_Part):
    """A table of pictures: `samples.csv` with the columns that hold the file stem, its class and its group."""

    file: str = "samples.csv"
    sample: str = "sample"
    label: str = ""
    group: str = ""
    separator: str = ","


class MaskValues(_Part):
    """Which values of an image mask are object. Without `threshold` a mask may hold only `foreground`, `background`, `ignore`.

    `threshold` is for masks saved as 0/255 or as a compressed picture: above it is object. `ignore` becomes background.
    """

    foreground: tuple[int, ...] = (1,)
    background: tuple[int, ...] = (0,)
    ignore: tuple[int, ...] = ()
    threshold: int | None = None


class Split(_Part):
    """What is held out whole: `group` (random groups), `block` (runs of neighbouring groups) or `part` (folders `train`/`val`)."""

    method: Literal["group", "block", "part"] = "group"
    means: str = "person"


class Library(_Part):
    """A folder of lesion masks in MNI space."""

    recipe: str = ""
    folder: str = ""
    pattern: str = "{sample}.nii.gz"
    exclude: tuple[str, ...] = ()
    #: Mirror every second mask, drawn at random: for libraries of one side.
    mirror: bool = False
    #: Leave out masks that touch the edge of their volume.
    uncut: bool = False
    #: Leave out masks with voxels on both sides of the midline.
    one_sided: bool = False


class Lesions(_Part):
    """Real masks set into real scans."""

    kind: Literal["stroke", "ms"]
    background: str
    libraries: tuple[Library, ...]
    #: Log-normal volumes to match (median in mL, sigma); without them masks are drawn at random.
    median_ml: float | None = None
    sigma: float | None = None


class Composite(_Part):
    """Photographs pasted into photographs, through random shapes."""

    photographs: str


class Recipe(_Part):
    """One data set, described in data. See the bundled YAML files for examples; unknown keys are refused."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    title: str
    kind: Kind
    licence: str
    citation: str = ""
    credit: str = ""
    access: Access
    folder: str = ""
    patterns: Patterns = Patterns()
    labels: dict[int, int] = {}
    people: SubjectTable | None = None
    samples: SampleTable | None = None
    only: tuple[str, ...] = ()
    classes: dict[str, str] = {}
    mask_values: MaskValues = MaskValues()
    #: Clip each picture to these percentiles of its values above 0 (for MRI slices).
    stretch: tuple[float, float] | None = None
    lesions: Lesions | None = None
    composite: Composite | None = None
    generator: Literal["", "natural", "mri", "stroke", "ms", "anatomy"] = ""
    orientation: str = ""
    skull: str = ""
    traps: tuple[str, ...] = ()
    split: Split = Split()
    cells: tuple[str, ...] = ()
    simulated: bool = False
    publish: Literal["numbers", "pictures", "volumes"] = "numbers"
    template: bool = False
    #: The YAML file, and whether it lies beside a user's data; filled in by `load_recipe`.
    file: Path = Field(default=Path(), exclude=True)
    bundled: bool = Field(default=True, exclude=True)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Recipe:
        needs = {
            "volumes": ("patterns.image", self.patterns.image),
            "images": ("patterns.image", self.patterns.image),
            "masks": ("patterns.mask", self.patterns.mask),
            "composited": ("composite", self.composite),
            "semisynthetic": ("lesions", self.lesions),
            "simulated": ("generator", self.generator),
        }
        key, value = needs[self.kind]
        if not value:
            raise ValueError(f"kind {self.kind} needs `{key}`")
        odd = [c for c in self.cells if c not in CELLS]
        if odd:
            raise ValueError(f"cells: {', '.join(odd)} unknown; allowed are {', '.join(CELLS)}")
        return self

    @property
    def group_means(self) -> str:
        """What a group of the split is: person, photograph, block of slices, video."""
        return self.split.means

    @cached_property
    def target_classes(self) -> int:
        """How many foreground classes the label map makes."""
        return max(self.labels.values(), default=1)

    def root(self, data_root: Path | str | None) -> Path:
        """The folder of the set. BadInput where there is none."""
        if data_root is None:
            raise BadInput(f"recipe {self.name} needs a folder of data sets; give it with --data (make: DATA=)")
        if not self.bundled and self.file.name == "recipe.yaml":
            return self.file.parent / self.folder
        return Path(data_root) / (self.folder or self.name)


def _read(file: Path, bundled: bool) -> Recipe:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: not readable as YAML ({error}); check indentation and quotes") from error
    if not isinstance(values, dict):
        raise BadInput(f"{file}: a recipe is a list of `key: value` lines; copy a bundled one to start from")
    try:
        return Recipe(**{**values, "file": file, "bundled": bundled})
    except ValidationError as error:
        raise BadInput(f"{file}: {'; '.join(_sentence(e) for e in error.errors())}") from error


def _sentence(error: object) -> str:
    assert isinstance(error, dict)
    key = ".".join(str(part) for part in error["loc"]) or "the recipe"
    if error["type"] == "extra_forbidden":
        return f"unknown key `{key}`; take it out or correct its spelling"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"`{key}`: {message}" if error["type"] != "missing" else f"key `{key}` is missing; add it"


def recipe_files(data_root: Path | str | None = None) -> list[tuple[Path, bool]]:
    """Every recipe file, with whether it is bundled: ours, then `<data>/recipes/*.yaml`, then `<data>/<set>/recipe.yaml`."""
    files = [(f, True) for f in sorted(Path(__file__).parent.glob("*.yaml"))]
    if data_root is not None:
        root = Path(data_root)
        files += [(f, False) for f in sorted(root.glob("recipes/*.yaml"))]
        files += [(f, False) for f in sorted(root.glob("*/recipe.yaml"))]
    return files


def load_recipe(name: str, data_root: Path | str | None = None) -> Recipe:
    """The recipe called `name`. BadInput when there is none, when two have the name, or when it says something unknown."""
    found: list[Recipe] = []
    known: list[str] = []
    for file, bundled in recipe_files(data_root):
        called = file.stem if bundled else _name_in(file)
        known.append(called)
        if called == name:
            found.append(_read(file, bundled))
    if not found:
        raise BadInput(f"no recipe `{name}`; there are {', '.join(sorted(set(known)))}")
    if len(found) > 1:
        places = " and ".join(str(r.file) for r in found)
        raise BadInput(f"two recipes are called `{name}`: {places}; rename one")
    if found[0].bundled and found[0].template:
        raise BadInput(
            f"recipe `{name}` is a template; copy {found[0].file} beside your data and give it a name of its own"
        )
    return found[0]


def _name_in(file: Path) -> str:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: not readable as YAML ({error}); check indentation and quotes") from error
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise BadInput(f"{file}: key `name` is missing; add it")
    return name


def every_recipe(data_root: Path | str | None = None) -> list[Recipe]:
    """All recipes, templates too. BadInput for the first one that cannot be read."""
    return [_read(file, bundled) for file, bundled in recipe_files(data_root)]
