"""Deliberate mistakes in copies of the code, one at a time, and the tests that must notice each."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from braintransfer.errors import BadInput
from braintransfer.provenance import project_root

#: What the tests need of a project.
COPIED = (
    "src",
    "tests",
    "notebooks",
    "book",
    "_config.yml",
    "_toc.yml",
    "pyproject.toml",
    "constraints.txt",
    "Makefile",
)
#: Seconds after which tests are given up. That is no catch: the machine may only have been busy.
TIME_LIMIT = 1800
COLUMNS = ["area", "mistake", "file", "result", "caught by", "seconds"]


@dataclass(frozen=True)
class Mutation:
    """One deliberate mistake.

    area: what it spoils. name: in plain words. file: below src/braintransfer. old: text that stands there exactly once;
    new: what takes its place. tests: files below tests/unit, without test_ and .py, in the order in which they are run.
    """

    area: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_LOAD = "encoder.load_state_dict(state, strict=False)  # strict but for the counters, as just checked"
_ARRIVED = (
    "loaded = sum(torch.equal(value.cpu(), state[k].to(value.dtype)) for k, value in encoder_state(network).items())"
)
_RESET = "    _reset_counters(network)\n    "

MUTATIONS = (
    # -------------------------------------------------------------------------------------------------------- training
    Mutation(
        "training", "masks go to the wrong images", "training.py",
        "_on_device(read[1], machine)", "_on_device(read[1], machine).flip(0)", ("training",),
    ),
    Mutation(
        "training", "class numbers off by one", "training.py",
        "_on_device(read[2], machine).long()", "_on_device(read[2], machine).long() + 1", ("training",),
    ),
    Mutation(
        "training", "the self-supervised input is not damaged", "training.py",
        "return machine.arrange(normalise_unit(corrupted)),", "return machine.arrange(normalise_unit(images)),", ("training",),
    ),
    Mutation(
        "training", "augmentation moves the image but mirrors the mask", "augment.py",
        "masks.unsqueeze(1).to(images.dtype), places,", "masks.unsqueeze(1).to(images.dtype), places.flip(2),", ("augment",),
    ),
    Mutation(
        "training", "the learning rate stays constant", "training.py",
        'group["lr"] = schedule.rate(state.step)', 'group["lr"] = schedule.learning_rate', ("training",),
    ),
    Mutation(
        "training", "no warm-up of the learning rate", "training.py",
        "return self.learning_rate * (step + 1) / (warmup + 1)", "return self.learning_rate", ("training",),
    ),
    Mutation(
        "training", "gradients of earlier steps stay", "training.py",
        "state.adam.zero_grad(set_to_none=True)", "pass", ("training",),
    ),
    Mutation(
        "training", "evaluation in training mode", "training.py",
        "    network.eval()\n    parts = []", "    network.train()\n    parts = []", ("training",),
    ),
    Mutation(
        "training", "BatchNorm statistics reset after training", "training.py",
        "    rates = tuple(schedule.rate(step) for step in range(schedule.steps))",
        "    [m.reset_running_stats() for m in network.modules() if isinstance(m, nn.BatchNorm2d)]\n"
        "    rates = tuple(schedule.rate(step) for step in range(schedule.steps))",
        ("training",),
    ),
    Mutation(
        "training", "evaluation normalises otherwise than training", "training.py",
        "normalise(torch.from_numpy(np.ascontiguousarray(part)))",
        "torch.from_numpy(np.ascontiguousarray(part)).float().div(255).unsqueeze(1).expand(-1, 3, -1, -1)",
        ("training",),
    ),
    Mutation(
        "training", "colour images are not normalised as grey ones", "network.py",
        "if images.shape[1] == 1 else scaled", "if images.shape[1] == 1 else images", ("network",),
    ),
    # ----------------------------------------------------------------------------------------------------------- seeds
    Mutation(
        "seeds", "seed ignored in the order of images", "finetune.py",
        'study.stream(seed, "order")', 'study.stream(0, "order")', ("finetune",),
    ),
    Mutation(
        "seeds", "seed ignored in augmentation", "finetune.py",
        'study.stream_seed(seed, "augmentation")', 'study.stream_seed(0, "augmentation")', ("finetune",),
    ),
    Mutation(
        "seeds", "seed ignored in the network's first weights", "finetune.py",
        "build_unet(settings.encoder, n_classes + 1, seed)", "build_unet(settings.encoder, n_classes + 1, 0)", ("finetune",),
    ),
    Mutation(
        "seeds", "seed ignored in the encoder's first weights", "network.py",
        'torch.manual_seed(study.stream_seed(seed, "encoder weights"))\n        try:\n            network',
        'torch.manual_seed(study.stream_seed(0, "encoder weights"))\n        try:\n            network',
        ("network",),
    ),
    Mutation(
        "seeds", "every seed loads the encoder of seed 0", "finetune.py",
        'f"seed-{seed}" / "encoder.safetensors"', '"seed-0" / "encoder.safetensors"', ("finetune",),
    ),
    Mutation(
        "seeds", "seed ignored in the training subset", "store.py",
        "chosen = order[seed % len(order)]", "chosen = order[0]", ("store",),
    ),
    # ---------------------------------------------------------------------------------------------------------- splits
    Mutation(
        "splits", "a test person in the training set", "store.py",
        "sorted(rest[n_validation:])\n", "sorted(rest[n_validation:] + test[:1])\n", ("store",),
    ),
    Mutation(
        "splits", "validation people are tested too", "store.py",
        '"validation": validation, "test": test,', '"validation": validation, "test": test + validation,', ("store",),
    ),
    Mutation(
        "splits", "validation people are trained on", "store.py",
        "sorted(rest[n_validation:])\n", "sorted(rest)\n", ("store",),
    ),
    Mutation(
        "splits", "the lock on test people is off", "store.py",
        'if "folds" in self.splits and not self._open["test"]:', "if False:", ("store",),
    ),
    Mutation(
        "splits", "training takes the people of fold 0 in every fold", "finetune.py",
        "people = store.training_subset(fold, seed, settings.n_train)",
        "people = store.training_subset(0, seed, settings.n_train)", ("finetune",),
    ),
    Mutation(
        "splits", "scoring takes the people of fold 0 in every fold", "finetune.py",
        'settings.target, store, store.subjects("test", fold), machine)',
        'settings.target, store, store.subjects("test"), machine)', ("finetune",),
    ),
    Mutation(
        "splits", "a source trains on its held-out images", "pretrain.py",
        'rows = store.rows(store.subjects("train"))', 'rows = store.rows(store.subjects("train") + store.subjects("validation"))',
        ("training",),
    ),
    Mutation(
        "splits", "baselines are fitted on test people", "baselines.py",
        "people = store.training_subset(fold, seed, n_train)", 'people = store.subjects("test", fold)', ("baselines",),
    ),
    # -------------------------------------------------------------------------------------------------------- transfer
    Mutation(
        "transfer", "a source's encoder is not loaded", "transfer.py",
        f"{_LOAD}\n{_RESET}{_ARRIVED}", f"{_RESET.strip()}\n    loaded = len(own)", ("transfer",),
    ),
    Mutation(
        "transfer", "fine-tuning starts from random weights whatever the source", "finetune.py",
        "loaded = start_from(network, settings.source, weights)", 'loaded = start_from(network, "scratch")', ("finetune",),
    ),
    Mutation(
        "transfer", "only half of the tensors are loaded", "transfer.py",
        f"{_LOAD}\n{_RESET}{_ARRIVED}",
        "encoder.load_state_dict(dict(list(state.items())[:120]), strict=False)\n"
        f"{_RESET}loaded = len(own)",
        ("transfer",),
    ),
    Mutation(
        "transfer", "BatchNorm statistics are not loaded", "transfer.py",
        f"{_LOAD}\n{_RESET}{_ARRIVED}",
        'encoder.load_state_dict({k: v for k, v in state.items() if "running" not in k}, strict=False)\n'
        f"{_RESET}loaded = len(own)",
        ("transfer",),
    ),
    Mutation(
        "transfer", "the decoder changes with the source", "transfer.py",
        f"{_LOAD}",
        f"{_LOAD}\n    getattr(network, 'segmentation_head', network)[0].weight.data.mul_(1.5)\n"
        "    outside = digest(network, encoder=False)",
        ("transfer",),
    ),
    Mutation(
        "transfer", "the decoder is stored with the encoder", "transfer.py",
        "weight_file(encoder_state(network), _header(plan))", "weight_file(network.state_dict(), _header(plan))",
        ("transfer",),
    ),
    Mutation(
        "transfer", "ImageNet tensors shifted by one", "transfer.py",
        "zip(own.items(), public.items(), strict=False)", "zip(own.items(), list(public.items())[1:], strict=False)",
        ("transfer",),
    ),
    Mutation(
        "transfer", "ImageNet tensors with their channels reversed", "transfer.py",
        "renamed[mine] = given", "renamed[mine] = given.flip(0)", ("transfer",),
    ),
    Mutation(
        "transfer", "another normalisation of a source is accepted", "transfer.py",
        '        ("normalisation", plan.normalisation, NORMALISATION),\n', "", ("transfer",),
    ),
    # ----------------------------------------------------------------------------------------------- back to the scan
    Mutation(
        "back to the scan", "prediction mirrored left to right", "evaluate.py",
        "volumes.from_slices(channel) for channel", "volumes.from_slices(channel)[::-1] for channel", ("evaluate",),
    ),
    Mutation(
        "back to the scan", "prediction one slice too low", "evaluate.py",
        "stack[:, slices] =", "stack[:, slices - 1] =", ("evaluate",),
    ),
    Mutation(
        "back to the scan", "the scan's affine is ignored", "volumes.py",
        "resample(probabilities[index], grid.matrix, shape, own_affine)",
        "resample(probabilities[index], grid.matrix, shape, grid.matrix)", ("volumes",),
    ),
    Mutation(
        "back to the scan", "the spacing is ignored", "volumes.py",
        "affine[:3, :3] = rotation * spacing", "affine[:3, :3] = rotation", ("volumes",),
    ),
    Mutation(
        "back to the scan", "labels off by one", "evaluate.py",
        "return probabilities.argmax(axis=0)", "return 1 + probabilities.argmax(axis=0)", ("evaluate",),
    ),
    Mutation(
        "back to the scan", "threshold .3 in place of .5", "evaluate.py",
        "(probabilities[1] > THRESHOLD)", "(probabilities[1] > 0.3)", ("evaluate",),
    ),
    # --------------------------------------------------------------------------------------------------------- metrics
    Mutation(
        "metrics", "Dice of an empty reference is 1", "metrics.py",
        "return 2 * both / (n_pred + n_truth) if n_truth else math.nan",
        "return 2 * both / (n_pred + n_truth) if n_truth else 1.0", ("metrics",),
    ),
    Mutation(
        "metrics", "lesions connected by faces only (6 in place of 26)", "metrics.py",
        "return _match(*_component_pair(pred, truth, connectivity), voxel_mm3",
        "return _match(*_component_pair(pred, truth, 6), voxel_mm3", ("metrics",),
    ),
    Mutation(
        "metrics", "any overlap makes a lesion true", "metrics.py",
        "(in_lesions >= overlap)", "(in_lesions > 0)", ("metrics",),
    ),
    Mutation(
        "metrics", "specks count as lesions", "metrics.py",
        "truth_lesion = truth.sizes * voxel_mm3 >= min_volume_mm3 - _VOLUME_SLACK_MM3",
        "truth_lesion = truth.sizes * voxel_mm3 >= 0", ("metrics",),
    ),
    Mutation(
        "metrics", "voxel volume from the first spacing alone", "metrics.py",
        "voxel_ml = math.prod(size_mm) / 1000", "voxel_ml = size_mm[0] ** 3 / 1000", ("metrics", "evaluate"),
    ),
    Mutation(
        "metrics", "Dice as a mean over slices", "metrics.py",
        '"dice": _dice(both, n_pred, n_truth),',
        '"dice": float(np.nanmean([_dice(*_counts(p[..., z], t[..., z])) for z in range(t.shape[2])] or [math.nan])),',
        ("metrics", "evaluate"),
    ),
    # ------------------------------------------------------------------------------------------------------ statistics
    Mutation(
        "statistics", "every seed counts as one more person", "statistics.py",
        "variance, df = _variance_of_mean(table) if",
        "variance, df = (table.var(ddof=1) / table.size, table.size - 1.0) if", ("statistics",),
    ),
    Mutation(
        "statistics", "the spread of seeds is ignored", "statistics.py",
        "total = max(ms_subject, ms_rest) + max(ms_seed, ms_rest) - ms_rest", "total = ms_subject", ("statistics",),
    ),
    Mutation(
        "statistics", "Holm's steps left out", "statistics.py",
        " * np.arange(len(p), 0, -1)\n", "\n", ("statistics",),
    ),
    Mutation(
        "statistics", "two-sided p in place of one-sided", "statistics.py",
        "distance = interval.estimate - bound\n    if interval.standard_error == 0:\n        return 0.0 if distance > 0 else 1.0\n"
        "    return float(",
        "distance = interval.estimate - bound\n    if interval.standard_error == 0:\n        return 0.0 if distance > 0 else 1.0\n"
        "    return min(1.0, 2 * ",
        ("statistics",),
    ),
    Mutation(
        "statistics", "claims weighed without Holm", "claims.py",
        "for adjusted in holm(p)]", "for adjusted in p]", ("claims",),
    ),
    Mutation(
        "statistics", "sign of the margin flipped", "claims.py",
        "return lower > -contrast.margin and contrast.works", "return lower > contrast.margin and contrast.works", ("claims",),
    ),
    Mutation(
        "statistics", "non-inferiority tested at twice the confidence asked for", "claims.py",
        "1 - 2 * common.noninferiority_alpha).lower", "1 - common.noninferiority_alpha).lower", ("claims",),
    ),
    Mutation(
        "statistics", "the assay gate forgets that seven sources are tried", "claims.py",
        "if p[best] <= rule.alpha / rule.divided_by:", "if p[best] <= rule.alpha:", ("claims",),
    ),
    Mutation(
        "statistics", "scans of a person are not averaged", "compare.py",
        'scores.groupby(["subject", "metric", "class"], sort=True',
        'scores.groupby(["subject", "scan", "metric", "class"], sort=True', ("compare",),
    ),
    Mutation(
        "statistics", "differences of unpaired seeds", "tables.py",
        "_complete(ours - theirs)", "_complete(ours - theirs.iloc[:, ::-1].set_axis(theirs.columns, axis=1))",
        ("tables",),
    ),
)  # fmt: skip


def places(root: Path | None = None) -> dict[str, int]:
    """How often each mutation's old text stands in today's source: area and name -> count; 1 is right."""
    source = (root or project_root()) / "src" / "braintransfer"
    return {f"{m.area}: {m.name}": (source / m.file).read_text(encoding="utf-8").count(m.old) for m in MUTATIONS}


@contextmanager
def project_copy(root: Path | None = None) -> Iterator[Path]:
    """A temporary copy of what the tests need; gone afterwards."""
    root = root or project_root()
    with tempfile.TemporaryDirectory(prefix="braintransfer-mutations-") as name:
        for part in COPIED:
            if (root / part).is_dir():
                shutil.copytree(
                    root / part, Path(name, part), ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
                )
            elif (root / part).is_file():
                shutil.copy(root / part, Path(name, part))
        yield Path(name)


@dataclass(frozen=True)
class Outcome:
    """What the tests said. result: "caught", "survived" or "did not run"; by: the first test that failed, or why not;
    seconds: of processor time, which a busy machine does not stretch.
    """

    result: str
    by: str
    seconds: float


_FAILED = re.compile(r"^(FAILED|ERROR) tests/unit/test_(\w+)\.py::(\w+)", re.MULTILINE)


def _processor_seconds() -> float:
    """Processor time of all ended processes that this one started."""
    used = os.times()
    return used.children_user + used.children_system


def run_tests(copy: Path, tests: Sequence[str]) -> Outcome:
    """Run tests/unit/test_<name>.py of the copy, on the copy's own source, up to the first failure.

    A test file that does not even import is no catch: it would say nothing about the test.
    """
    paths = [f"tests/unit/test_{name}.py" for name in tests]
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-x",
        "-q",
        "-rfE",
        "--color=no",
        "-p",
        "no:cacheprovider",
        "--durations=0",
        *paths,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("PYTEST_ADDOPTS", None)
    environment.pop("PYTEST_CURRENT_TEST", None)
    start = _processor_seconds()
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome("did not run", f"no end within {TIME_LIMIT} s", round(_processor_seconds() - start, 1))
    seconds = round(_processor_seconds() - start, 1)
    failed = _FAILED.search(done.stdout)
    if done.returncode == 0:
        return Outcome("survived", "", seconds)
    if done.returncode == 1 and failed:
        return Outcome("caught", f"test_{failed[2]}: {failed[3].removeprefix('test_').replace('_', ' ')}", seconds)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return Outcome(
        "did not run", next((line for line in lines if line.startswith("E ")), lines[-1] if lines else ""), seconds
    )


def mutated(source: str, mutation: Mutation) -> str:
    """The source with the mistake in it. BadInput unless the old text stands there once and the result is Python."""
    if source.count(mutation.old) != 1:
        raise BadInput(
            f"{mutation.file}: the text of '{mutation.name}' stands there {source.count(mutation.old)} times, not once; "
            "mend it in proofs/mutations.py"
        )
    changed = source.replace(mutation.old, mutation.new)
    ast.parse(changed)
    return changed


def run_mutation(copy: Path, mutation: Mutation) -> Outcome:
    """Make one mistake in the copy, run its tests, and take the mistake back."""
    path = copy / "src" / "braintransfer" / mutation.file
    source = path.read_text(encoding="utf-8")
    path.write_text(mutated(source, mutation), encoding="utf-8")
    try:
        return run_tests(copy, mutation.tests)
    finally:
        path.write_text(source, encoding="utf-8")


def copy_is_tested(copy: Path) -> bool:
    """Do the tests run on the copy's source, not on the installed one? A copy that cannot be imported must stop them."""
    path = copy / "src" / "braintransfer" / "__init__.py"
    source = path.read_text(encoding="utf-8")
    path.write_text(f'{source}\nraise RuntimeError("this copy is broken on purpose")\n', encoding="utf-8")
    try:
        found = run_tests(copy, ("statistics",))
        return found.result == "did not run" and "broken on purpose" in found.by
    finally:
        path.write_text(source, encoding="utf-8")


def sample(repeats: int) -> tuple[Mutation, ...]:
    """`repeats` mutations spread evenly over the list, all of them when there are no more."""
    n = min(repeats, len(MUTATIONS))
    return tuple(MUTATIONS[i * len(MUTATIONS) // n] for i in range(n))


def mutation_table(
    mutations: Sequence[Mutation] = MUTATIONS, report: Callable[[str], None] = print, root: Path | None = None
) -> pd.DataFrame:
    """Try the mutations one by one in one copy. Columns: area, mistake, file, result, caught by, seconds.

    BadInput when the copy is not what is tested, or when its tests fail without any mistake: then no catch says anything.
    """
    rows = []
    with project_copy(root) as copy:
        if not copy_is_tested(copy):
            raise BadInput("the tests do not run on the copy's source; look at the installation of braintransfer")
        used = list(dict.fromkeys(name for m in mutations for name in m.tests))
        before = run_tests(copy, used)
        if before.result != "survived":
            raise BadInput(f"without any mistake: {before.result} ({before.by}); mend the tests first")
        report(f"without a mistake all tests pass ({before.seconds:.0f} s)")
        for k, m in enumerate(mutations, 1):
            found = run_mutation(copy, m)
            report(f"{k:>2}/{len(mutations)}  {found.result:<8}  {found.seconds:5.1f} s  {m.area}: {m.name}")
            rows.append([m.area, m.name, m.file, found.result, found.by, found.seconds])
    return pd.DataFrame(rows, columns=COLUMNS)
