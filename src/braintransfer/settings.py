"""Parameters of the stages and profiles of runs: read, checked, frozen. Unknown names and impossible values are refused."""

from __future__ import annotations

import ast
import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.provenance import in_project, project_root
from braintransfer.untrusted import read_yaml


def _one_of(*allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in allowed:
            close = difflib.get_close_matches(value, allowed, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"must be one of {', '.join(allowed)}{hint}")
        return value

    return AfterValidator(check)


def _plain_name(value: str) -> str:
    # names become folders and shell words
    if not value or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in value) or value[0] in ".-":
        raise ValueError("must be letters, digits, _ - or . only, and not start with . or -")
    return value


def _known_arm(value: str) -> str:
    return study.arm(value).name


def _no_doubles(values: list[int]) -> list[int]:
    if len(set(values)) != len(values):
        raise ValueError("must not name a number twice")
    return values


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Name = Annotated[str, AfterValidator(_plain_name)]
Source = Annotated[str, _one_of(*study.SOURCES)]
Target = Annotated[str, _one_of(*study.TARGETS)]
Domain = Annotated[str, _one_of(*study.DOMAINS)]
Arm = Annotated[str, AfterValidator(_plain_name), AfterValidator(_known_arm)]
Count = Annotated[int, BeforeValidator(_not_a_bool), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_not_a_bool), Field(ge=1, le=10**8)]
Rate = Annotated[float, BeforeValidator(_not_a_bool), Field(gt=0, lt=1)]
Share = Annotated[float, BeforeValidator(_not_a_bool), Field(ge=0, le=1)]
Side = Annotated[int, BeforeValidator(_not_a_bool), Field(ge=32, le=1024, multiple_of=32)]
Numbers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_no_doubles)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Stage(_Frozen):
    profile: Name = "by-hand"
    read_from: str = "runs/demo"
    write_to: str = "runs/by-hand"

    @property
    def inputs(self) -> Path:
        """The run folder that earlier stages wrote."""
        return in_project(self.read_from)

    @property
    def run(self) -> Path:
        """The run folder that this stage writes into."""
        return in_project(self.write_to)


class PrepareSettings(_Stage):
    """One data set becomes one slice store."""

    dataset: Name
    recipe: Name
    role: Literal["source", "target", "showcase"]
    target: str = ""
    data: str = ""
    images: Count = 0
    subjects: Count = 0
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    spacing: Annotated[float, Field(ge=0.5, le=5)]
    folds: Positive = 1
    n_validation: Count = 0
    n_test: Count = 0
    skip_bad: bool = False
    seed: Count = 0

    @model_validator(mode="after")
    def _role_fits(self) -> PrepareSettings:
        if self.role == "source" and self.images < 2:
            raise ValueError("images must be at least 2 when role is source")
        if self.role != "source" and self.target not in study.TARGETS:
            raise ValueError(f"target must be one of {', '.join(study.TARGETS)} when role is {self.role}")
        return self

    @property
    def folder(self) -> Path:
        return self.run / "data" / self.dataset

    @property
    def data_root(self) -> Path | None:
        return in_project(self.data) if self.data else None


class PretrainSettings(_Stage):
    """One source, all its seeds."""

    domain: Domain
    arm: Arm = "main"
    dataset: Name | Literal[""] = ""
    encoder: Name = "tf_efficientnet_lite0"
    seeds: Numbers
    images: Count = 0
    steps: Positive
    batch: Positive
    learning_rate: Rate
    crop: Side
    augmentation: Share = 1.0

    def source(self, task: str) -> str:
        """The source's name. BadInput when the arm is not for it."""
        source = f"{self.domain}-{task}"
        if unfit := _unfit(self.arm, source):
            raise BadInput(unfit)
        return source

    @property
    def store(self) -> Path:
        """The slice store of the pictures: the domain's, or that of a replicate."""
        return self.inputs / "data" / (self.dataset or self.domain)

    def folder(self, task: str) -> Path:
        return self.run / "sources" / self.arm / self.source(task)


def _unfit(arm: str, source: str) -> str:
    sources = study.arm(arm).sources
    return "" if source in sources else f"arm {arm} is not for {source}, but for {', '.join(sources)}"


class FinetuneSettings(_Stage):
    """One source and one target, all folds and seeds."""

    source: Source
    target: Target
    arm: Arm = "main"
    encoder: Name = "tf_efficientnet_lite0"
    seeds: Numbers
    folds: Numbers
    n_train: Count = 0
    steps: Positive
    batch: Positive
    learning_rate: Rate
    crop: Side
    augmentation: Share = 1.0
    showcase: Name | Literal[""] = ""

    @model_validator(mode="after")
    def _arm_fits(self) -> FinetuneSettings:
        if unfit := _unfit(self.arm, self.source):
            raise ValueError(unfit)
        return self

    @property
    def folder(self) -> Path:
        return self.run / "targets" / self.arm / self.target / self.source


class CompareSettings(_Stage):
    """Everything that is finished in a run, side by side."""

    cells: list[str] = Field(min_length=1)
    claims: str = "notebooks/claims.yaml"

    @property
    def folder(self) -> Path:
        return self.run / "compare"


class AuditSettings(_Stage):
    """All data sets of a run, searched for anyone or anything that stands on both sides.

    only_for: a source's data set -> the targets that its encoders are fine-tuned on; one that is not named, on all.
    """

    only_for: dict[Name, list[Target]] = {}

    @property
    def folder(self) -> Path:
        return self.run / "audit"


class ProofSettings(_Stage):
    """One proof of the study's own tools: how much of it, and where its table goes."""

    seed: Count = 0
    repeats: Positive

    def folder(self, proof: str) -> Path:
        return self.run / proof


class RealismSettings(ProofSettings):
    """The proof that looks at real scans."""

    data: str = ""

    @property
    def data_root(self) -> Path | None:
        return in_project(self.data) if self.data else None


class ScheduleSettings(ProofSettings):
    """The proof that tries schedules of several lengths. size_of: a profile; run_of: a run folder with its target stores."""

    size_of: str
    run_of: str


#: name of a proof -> what it shows; its notebook is prove_<name>.ipynb
PROOFS = {
    "metrics": "our metrics against independent implementations",
    "claims": "intervals and rules in simulated worlds",
    "simulators": "simulated lesions and brains beside real ones",
    "lesions": "semi-synthetic lesions beside real ones, and the null check",
    "mutations": "deliberate mistakes, and the tests that catch them",
    "faults": "runs that are interrupted, and what the same command makes of them",
    "schedule": "fine-tuning at a quarter to twice its length, on validation people",
    "speed": "the training loop beside the network alone and beside other loops",
}

STAGES: dict[str, type[_Stage]] = {
    "prepare": PrepareSettings,
    "pretrain_classification": PretrainSettings,
    "pretrain_segmentation": PretrainSettings,
    "pretrain_selfsupervised": PretrainSettings,
    "finetune": FinetuneSettings,
    "compare": CompareSettings,
    "audit": AuditSettings,
    **{f"prove_{name}": ProofSettings for name in PROOFS},
    "prove_simulators": RealismSettings,
    "prove_lesions": RealismSettings,
    "prove_schedule": ScheduleSettings,
}


def _one_line(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first complaint of pydantic as one sentence that names the key and says what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        names = list(model.model_fields)
        close = difflib.get_close_matches(str(first["loc"][-1]), names, 1)
        return (
            f"{where}: unknown name '{key}'"
            + (f" (did you mean {close[0]}?)" if close else "")
            + f"; allowed: {', '.join(names)}"
        )
    if first["type"] == "missing":
        return f"{where}: '{key}' is missing; give it a value"
    value = "" if not key else f"{key} = {reprlib.repr(first.get('input'))}: "
    return f"{where}: {value}{message[0].lower()}{message[1:]}"


def read_parameters(stage: str, values: dict[str, Any]) -> Any:
    """Settings of `stage` from plain values. BadInput, one line, for an unknown name, wrong type or impossible value."""
    if stage not in STAGES:
        raise BadInput(f"unknown stage '{stage}'; allowed: {', '.join(STAGES)}")
    try:
        return STAGES[stage].model_validate(values)
    except ValidationError as error:
        raise BadInput(_one_line(error, STAGES[stage], f"notebooks/{stage}.ipynb")) from None


def notebook_parameters(stage: str, namespace: dict[str, Any]) -> Any:
    """Settings of `stage` from a notebook's own names: everything that its parameters cells have bound.

    papermill only warns about a name that no notebook knows and goes on with the defaults; here it is refused.
    Called from the cell right below the parameters with `globals()`.
    """
    cells = [str(source) for source in namespace.get("In", [])]
    if not cells:  # not under IPython: everything public counts
        bound = {name for name in namespace if not name.startswith("_")}
    else:
        bound = set()
        for source in cells[:-1]:
            bound |= _names_bound(source)
        if len(cells) > 4:  # run again by hand, further down: later cells' names are no parameters
            bound &= set(STAGES[stage].model_fields)
    skip = {"annotations", "notebook_parameters"}
    return read_parameters(stage, {name: namespace[name] for name in bound - skip if name in namespace})


def _names_bound(source: str) -> set[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    names = set()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


# ------------------------------------------------------------------------------------------------------------ profiles
class SourceData(_Frozen):
    recipe: Name
    images: Positive
    #: Leave out pictures that cannot be read, say which, and take others; otherwise one bad file stops the stage.
    skip_bad: bool = False


class TargetData(_Frozen):
    recipe: Name
    subjects: Count = 0
    folds: Positive
    run_folds: Numbers
    n_train: Positive
    n_validation: Count
    n_test: Count = 0
    #: Leave out scans that cannot be read, and say which; otherwise one bad scan stops the stage.
    skip_bad: bool = False


class ShowcaseData(_Frozen):
    recipe: Name
    target: Target


class Training(_Frozen):
    steps: Positive
    batch: Positive
    learning_rate: Rate
    crop: Side
    augmentation: Share = 1.0


class ArmPlan(_Frozen):
    """One control of a run: for which sources and targets, and whether with fewer seeds than the main arm."""

    sources: list[Source] = Field(min_length=1)
    targets: list[Target] = list(study.TARGETS)
    seeds: Numbers | None = None
    #: The data set of a replicate.
    data: SourceData | None = None


class Profile(_Frozen):
    """A whole run: which data, how much of it, which network, how long. One YAML file in notebooks/profiles."""

    name: Name
    title: str
    size_note: str
    encoder: Name
    seeds: Numbers
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    source_size: Side
    spacing: Annotated[float, Field(ge=0.5, le=5)]
    sources: dict[Domain, SourceData]
    source_images: Positive
    targets: dict[Target, TargetData]
    showcase: dict[Name, ShowcaseData] = {}
    pretrain: Training
    finetune: Training
    arms: dict[Arm, ArmPlan] = {}
    seed: Count = 0

    @model_validator(mode="after")
    def _complete(self) -> Profile:
        for kind, have, need in (("sources", self.sources, study.DOMAINS), ("targets", self.targets, study.TARGETS)):
            missing = [name for name in need if name not in have]
            if missing:
                raise ValueError(f"{kind} lacks {', '.join(missing)}")
        for domain, source in self.sources.items():
            if source.images < self.source_images:
                raise ValueError(
                    f"sources.{domain}.images is {source.images}, fewer than source_images {self.source_images}"
                )
        for name, data in self.targets.items():
            if data.folds < 2:
                raise ValueError(
                    f"targets.{name}.folds is {data.folds}: nobody would be left to test on; give 2 or more"
                )
            if max(data.run_folds) >= data.folds:
                raise ValueError(f"targets.{name}.run_folds names fold {max(data.run_folds)} but folds is {data.folds}")
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        return self

    def _check_arm(self, name: str, arm: ArmPlan) -> None:
        kind = study.arm(name)
        if name == "main":
            raise ValueError("arms.main is always run; name only the others")
        for source in arm.sources:
            if unfit := _unfit(name, source):
                raise ValueError(unfit)
        if arm.seeds is not None and not set(arm.seeds) <= set(self.seeds):
            raise ValueError(f"arms.{name}.seeds must be among the run's seeds {self.seeds}")
        if (kind.kind == "replicate") != (arm.data is not None):
            raise ValueError(f"arms.{name}.data: a replicate names its recipe and images, no other arm does")
        if arm.data is not None:
            self._check_replicate(name, arm.sources, arm.data.images)
        few = [t for t in arm.targets if kind.kind == "labels" and kind.number >= self.targets[t].n_train]
        if few:
            raise ValueError(
                f"arms.{name}: {few[0]} is trained on {self.targets[few[0]].n_train} people in the main arm"
            )

    def _check_replicate(self, name: str, sources: list[Source], images: int) -> None:
        """Its set trains no more pictures than the main arm: all of a small set, as many as the main arm of a large one."""
        for domain in {study.domain_task(source)[0] for source in sources}:
            enough = self.sources[domain].images
            if self.source_images < images < enough:
                raise ValueError(
                    f"arms.{name}.data.images is {images}; give at most source_images ({self.source_images}), to train on all that "
                    f"are not held out, or at least sources.{domain}.images ({enough}), to train on as many as the main arm"
                )


def profile_names() -> list[str]:
    return sorted(p.stem for p in (project_root() / "notebooks" / "profiles").glob("*.yaml"))


#: The copy of its profile that a run keeps, so that it can be packed, costed and named when that was a file from elsewhere.
RUN_PROFILE = "profile.yaml"


def read_profile(name: str) -> Profile:
    """The profile `name` of notebooks/profiles, or a YAML file of your own. BadInput names file and key."""
    path = profile_file(name)
    if not path.is_file():
        raise BadInput(
            f"unknown profile '{name}'; there are: {', '.join(profile_names())} (or give the path of a .yaml file)"
        )
    return _profile_in(path, path.stem)


def profile_file(name: str) -> Path:
    """Where the profile `name` stands: a file of notebooks/profiles, or the path that it is."""
    own = name.endswith((".yaml", ".yml"))
    return Path(name) if own else project_root() / "notebooks" / "profiles" / f"{name}.yaml"


def profile_of(run: Path, name: str) -> Profile:
    """The profile that a run was last begun with: its own copy (RUN_PROFILE), else the one called `name`, as `read_profile`."""
    own = run / RUN_PROFILE
    return _profile_in(own, name) if own.is_file() else read_profile(name)


def _profile_in(path: Path, name: str) -> Profile:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise BadInput(f"{path}: must hold keys and values; see notebooks/profiles/demo.yaml")
    try:
        return Profile.model_validate({"name": name, **values})
    except ValidationError as error:
        raise BadInput(_one_line(error, Profile, str(path))) from None
