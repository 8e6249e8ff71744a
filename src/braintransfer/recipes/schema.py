"""What a recipe may say: a data set described in data, checked when it is read; and where recipes are found."""

from __future__ import annotations

import difflib
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.untrusted import inside, name_of_one, read_yaml

#: A path or pattern from the set's folder on: it must not lead out of it.
Inside = Annotated[str, AfterValidator(inside)]
Kind = Literal["volumes", "slices", "images", "masks", "composited", "semisynthetic", "simulated"]
CELLS = (*study.PRETRAINED_HERE, *study.TARGETS, "background", "photographs", "showcase", "lesion-masks")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Download(_Part):
    """One file to fetch. A checksum is required: what cannot be checked is not unpacked."""

    url: str
    #: What the owner calls the file, where the address does not say it (figshare's end in a number).
    name: str = ""
    sha256: str = ""
    md5: str = ""
    unpack: bool = True
    #: Leading folders of the archive to drop, as in `tar --strip-components`.
    strip: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _checked(self) -> Download:
        if not self.url.startswith(("https://", "http://")) or name_of_one(self.file_name) != self.file_name:
            raise ValueError(f"url must be http(s) and end in the name of a file (or give `name`), not {self.url}")
        if not (self.sha256 or self.md5):
            raise ValueError("give sha256 (or md5, where that is all the owner publishes)")
        return self

    @property
    def file_name(self) -> str:
        """What the file is called on disk and in a mirror."""
        return self.name or PurePosixPath(self.url).name


class Access(_Part):
    """How to get the data."""

    how: Literal["open", "register", "built-in", "own"]
    url: str = ""
    size: str = ""
    steps: tuple[str, ...] = ()
    files: tuple[Download, ...] = ()


class Patterns(_Part):
    """File patterns relative to the set's folder; `{subject}`, `{session}`, `{site}`, `{scan}`, `{sample}`, `{label}`,
    `{group}` and `{part}` stand for one piece of a name each. `brain` is a pattern, or `nonzero` for skull-stripped scans
    (`head` for slices with the skull on)."""

    image: tuple[Inside, ...] = ()
    mask: Inside = ""
    #: Further masks of the same scan, all that there are ("{subject}_lesion_*.nii.gz"); together they are the reference.
    more_masks: Inside = ""
    brain: Inside = "nonzero"
    #: Pictures whose values number the objects; with them a picture's class is that of its largest object.
    objects: Inside = ""
    #: Annotation files in COCO's format; classes and masks come from them, `{sample}` is the picture's file name.
    coco: Inside = ""


class SubjectTable(_Part):
    """A table of people: which column holds what. With `scan`, rows are found by scan and name the person; else by person."""

    file: Inside
    subject: str = "subject"
    scan: str = ""
    age: str = ""
    site: str = ""
    separator: str = "\t"


class SampleTable(_Part):
    """A table of pictures: `samples.csv` with the columns that hold the file stem, its class and its group.

    `columns` names them where the table has no header line; lines that start with # are left out then.
    """

    file: Inside = "samples.csv"
    sample: str = "sample"
    label: str = ""
    group: str = ""
    separator: str = ","
    columns: tuple[str, ...] = ()
    #: Names of samples start with their class: `check` compares.
    label_in_name: bool = False


class MaskValues(_Part):
    """Which values of an image mask are object. Without `threshold` a mask may hold only `foreground`, `background`, `ignore`.

    `threshold` is for masks saved as 0/255 or as a compressed picture: above it is object. `ignore` becomes background.
    `colours` is for masks in colour: its first colour (red, green, blue) is the value 0, and so on.
    """

    foreground: tuple[int, ...] = (1,)
    background: tuple[int, ...] = (0,)
    ignore: tuple[int, ...] = ()
    threshold: int | None = None
    colours: tuple[tuple[int, int, int], ...] = ()


class Split(_Part):
    """What is held out whole: `group` (random groups), `block` (runs of neighbouring groups) or `part` (folders `train`/`val`)."""

    method: Literal["group", "block", "part"] = "group"
    means: str = "person"


class Library(_Part):
    """A folder of lesion masks in MNI space."""

    recipe: str = ""
    folder: Inside = ""
    pattern: Inside = "{sample}.nii.gz"
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
    #: Brightness against white matter: as measured ("real"), as in the demo, or one number (1.0 changes nothing).
    contrast: Literal["real", "demo"] | float = "real"


class Composite(_Part):
    """Photographs pasted into photographs, through random shapes.

    grounds: names of classes that only ever lie behind. What is pasted can then be told by what it shows; with none, any class
    may lie on any other, and only the outline tells which of the two it is.
    """

    photographs: str
    grounds: tuple[str, ...] = ()


class ClassOf(_Part):
    """Where the class of a slice comes from: a field of the image pattern, a column of a table, or the slice's own mask.

    The table's column `row` holds `key`, which is made of fields ("OAS1_{subject}_MR{session}"). Scans whose value is empty
    (or n/a) are left out. `groups` puts numbers into classes: from the first (included) to the second (excluded).
    """

    field: str = ""
    table: Inside = ""
    separator: str = ","
    row: str = ""
    key: str = "{subject}"
    column: str = ""
    groups: dict[str, tuple[float, float]] = {}
    #: Names of the classes "nothing of the mask on the slice" and "something of it".
    mask: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ClassOf:
        if bool(self.field) + bool(self.table) + (self.mask is not None) != 1:
            raise ValueError("give one of `field`, `table` (with `row` and `column`) and `mask`")
        if self.table and not (self.row and self.column):
            raise ValueError("`table` needs `row` (the column that names the scan or person) and `column` (the class)")
        return self


class Slices(_Part):
    """Which slices of a volume become pictures: `per_scan` of them, evenly spread between two depths below the brain's top.

    With the skull on it is the head's top; in coronal slices its front. Of a semi-synthetic set: of those on which the lesion
    shows, at most `per_scan`. `field_mm` is a picture's width in millimetres.
    """

    plane: Literal["axial", "coronal"] = "axial"
    per_scan: int = Field(default=8, ge=1)
    below_top_mm: tuple[float, float] = (30, 100)
    field_mm: float = Field(default=224, gt=0)
    #: From slice to slice. Empty: as wide as a picture's pixel. Closer ones are cut that fine, then made smaller as photographs are.
    between_mm: float | None = Field(default=None, gt=0)
    #: Take the first scan of each person only, so that nobody gives more pictures than others.
    one_scan: bool = False
    class_of: ClassOf | None = None


class Volume(_Part):
    """How volumes are read, whole or in slices, where their names and headers do not say it."""

    #: What a person is called, made of fields; people are what is split. Empty: `{subject}`.
    person: str = ""
    #: Take only these sites; empty takes all.
    sites: tuple[str, ...] = ()
    #: Which volume of a 4-D image is T1, counted from 0.
    channel: int | None = Field(default=None, ge=0)
    #: Masks are probabilities or were smoothed: above this value is 1 (then `labels` maps), the rest 0.
    threshold: float | None = None
    #: Masks lie voxel on voxel on their scans, although their headers say something else.
    same_voxels: bool = False
    #: Where the stored axes run ("LAS": left, front, up), for headers that do not say it or say it wrongly.
    stored_axes: str = Field(
        default="", pattern="^([LR][AP][IS]|[LR][IS][AP]|[AP][LR][IS]|[AP][IS][LR]|[IS][LR][AP]|[IS][AP][LR])?$"
    )


class MatlabFields(_Part):
    """Where MATLAB v7.3 files keep a slice, its mask, class, person and (to check the orientation) the mask's border."""

    image: str
    mask: str
    label: str
    person: str
    border: str = ""
    exclude: tuple[str, ...] = ()


class Recipe(_Part):
    """One data set, described in data. See the bundled YAML files for examples; unknown keys are refused."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    title: str
    kind: Kind
    licence: str
    citation: str = ""
    credit: str = ""
    access: Access
    folder: Inside = ""
    patterns: Patterns = Patterns()
    labels: dict[int, int] = {}
    people: SubjectTable | None = None
    samples: SampleTable | None = None
    only: tuple[str, ...] = ()
    classes: dict[str, str] = {}
    #: Folder of ImageNet's development kit: names of the classes, and classes of validation pictures outside class folders.
    devkit: Inside = ""
    mask_values: MaskValues = MaskValues()
    #: Clip each picture to these percentiles of its values above 0 (for MRI slices).
    stretch: tuple[float, float] | None = None
    lesions: Lesions | None = None
    composite: Composite | None = None
    slices: Slices | None = None
    volume: Volume = Volume()
    #: Other recipes that hold some of the same people, and which sites of this set they are (none named: anywhere in it).
    overlaps: dict[str, tuple[str, ...]] = {}
    matlab: MatlabFields | None = None
    generator: Literal["", "natural", "mri", "stroke", "ms", "anatomy"] = ""
    orientation: str = ""
    skull: str = ""
    traps: tuple[str, ...] = ()
    split: Split = Split()
    cells: tuple[str, ...] = ()
    #: Nothing of it was measured. `kind: simulated` says so by itself; volumes or pictures that a program made must say it.
    simulated: bool = False
    publish: Literal["numbers", "pictures", "volumes"] = "numbers"
    template: bool = False
    #: The YAML file, and whether it lies beside a user's data; filled in by `load_recipe`.
    file: Path = Field(default=Path(), exclude=True)
    bundled: bool = Field(default=True, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _simulated_by_its_kind(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("kind") == "simulated":
            return {"simulated": True, **values}
        return values

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Recipe:
        needs = {
            "volumes": ("patterns.image", self.patterns.image),
            "images": ("patterns.image", self.patterns.image),
            "masks": ("patterns.mask", self.patterns.mask),
            "composited": ("composite", self.composite),
            "semisynthetic": ("lesions", self.lesions),
            "simulated": ("generator", self.generator),
            "slices": (
                "patterns.image` and `slices` (volumes) or `matlab",
                self.patterns.image and (self.slices or self.matlab),
            ),
        }
        key, value = needs[self.kind]
        if not value:
            raise ValueError(f"kind {self.kind} needs `{key}`")
        if self.kind == "simulated" and not self.simulated:
            raise ValueError("kind simulated and `simulated: false` contradict each other; take `simulated` out")
        odd = [c for c in self.cells if c not in CELLS]
        if odd:
            raise ValueError(f"cells: {', '.join(odd)} unknown; allowed are {', '.join(CELLS)}")
        return self

    def must_fill(self, cell: str) -> None:
        """BadInput, one line, when the set cannot fill `cell`: it lacks the classes or the masks that the task needs."""
        if cell not in self.cells:
            raise BadInput(
                f"recipe {self.name} fills {', '.join(self.cells)}, not {cell}; choose another recipe for it, or leave {cell} out"
            )

    def must_mark(self, target: str, classes: int) -> None:
        """BadInput, one line, when the set cannot fill `target`, whose masks have so many foreground classes."""
        self.must_fill(target)
        if self.labels and self.target_classes != classes:
            joined = ", ".join(f"{value}: {min(label, classes)}" for value, label in sorted(self.labels.items()))
            mend = f"to join them write {{{joined}}}, or map what does not count to 0"
            raise BadInput(
                f"recipe {self.name}: `labels` make {self.target_classes} classes, and {target} has {classes}; "
                f"{mend if self.target_classes > classes else 'name a value of the file for each'}"
            )

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
    values = read_yaml(file)
    if not isinstance(values, dict):
        raise BadInput(f"{file}: a recipe is a list of `key: value` lines; copy a bundled one to start from")
    try:
        return Recipe.model_validate({**values, "file": file, "bundled": bundled})
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
        close = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise BadInput(f"no recipe `{name}`; {hint}there are {', '.join(sorted(set(known)))}")
    if len(found) > 1:
        places = " and ".join(str(r.file) for r in found)
        raise BadInput(f"two recipes are called `{name}`: {places}; rename one")
    if found[0].bundled and found[0].template:
        raise BadInput(
            f"recipe `{name}` is a template; copy {found[0].file} beside your data and give it a name of its own"
        )
    return found[0]


def _name_in(file: Path) -> str:
    values = read_yaml(file)
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise BadInput(f"{file}: key `name` is missing; add it")
    return name


def every_recipe(data_root: Path | str | None = None) -> list[Recipe]:
    """All recipes, templates too. BadInput for the first one that cannot be read."""
    return [_read(file, bundled) for file, bundled in recipe_files(data_root)]
