"""What the notebooks of the course call to make data and to train: the study's own functions at the size of the profile `course`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from matplotlib.colors import to_rgb
from scipy import ndimage
from torch import nn

from braintransfer import plan, study
from braintransfer.errors import BadInput
from braintransfer.figures.base import FALSE, MISSED
from braintransfer.finetune import score_people, train
from braintransfer.machine import FILE, Machine, keep_memory
from braintransfer.network import build_unet
from braintransfer.prepare import prepare
from braintransfer.pretrain import pretrain
from braintransfer.provenance import atomic_write_text, peak_memory_mb, project_root, sealed
from braintransfer.settings import FinetuneSettings, Profile, read_parameters, read_profile
from braintransfer.simulate import simulated_target
from braintransfer.store import Store
from braintransfer.tables import read_json, read_results
from braintransfer.transfer import LoadReport, imagenet_encoder_state

#: The variable that names another profile than `course`; the tests set it to `tiny`.
PROFILE = "BRAINTRANSFER_COURSE_PROFILE"
#: The finished run on real scans that the last lab reads.
REFERENCE = "open_cut"


@dataclass(frozen=True)
class Trained:
    """One fine-tuned network. scores: of each test person on the target's headline metric, whole volumes."""

    network: nn.Module
    losses: tuple[float, ...]
    scores: pd.Series
    loaded: LoadReport
    seconds: float


@dataclass(frozen=True)
class Lab:
    """The data of a lab, in a folder of its own; what has been made there once is only read the next time."""

    profile: Profile
    run: Path
    target: str
    machine: Machine
    report: Callable[[str], None] = print

    @property
    def store(self) -> Store:
        """The target's slices: made from simulated people the first time."""
        return self.data(self.target)

    @property
    def counts(self) -> list[int]:
        """1, 2, 4 ... people, up to all that there are to learn from."""
        n = self.profile.targets[self.target].n_train  # type: ignore[index]
        return [2**k for k in range(n.bit_length()) if 2**k <= n]

    def data(self, dataset: str) -> Store:
        """The store `dataset` (stroke, ms, anatomy, natural, mri) of this lab; made if it is not there."""
        return prepare(self._settings("prepare", f"data/{dataset}"), report=_quiet)

    def encoder(self, source: str, seed: int = 0) -> Path | None:
        """The weights of a source, pre-trained now if they are not there; None for `scratch` and `imagenet`."""
        domain, task = study.domain_task(source)
        if not domain:
            return None
        path = self.run / "sources" / "main" / source / f"seed-{seed}" / "encoder.safetensors"
        self.data(domain)
        if not path.is_file():
            self.report(f"pre-training {source}, seed {seed}")
        settings = self._settings(f"pretrain_{task}", f"sources/main/{source}", seeds=[seed])
        pretrain(task, settings, report=_quiet)
        return path

    def new_network(self, seed: int = 0) -> nn.Module:
        """The study's network for this target with random weights: the same ones for the same seed."""
        return build_unet(self.profile.encoder, len(study.CLASSES[self.target]) + 1, seed)

    def fine_tune(
        self, source: str, people: int = 0, seed: int = 0, change: Callable[[nn.Module], Any] | None = None
    ) -> Trained:
        """Train a network from `source` on `people` labelled people (0: all), then score it on the test people.

        change: is given the network before anything is loaded into it, as to freeze a part of it.
        """
        settings: FinetuneSettings = self._settings(
            "finetune", f"targets/main/{self.target}/{source}", seeds=[seed], n_train=people
        )
        weights, store = self.encoder(source, seed), self.store
        network = self.new_network(seed)
        if change is not None:
            change(network)
        loaded, history, _ = train(network, settings, weights, store, self.machine, 0, seed, _quiet)
        with store.final_scoring():
            table = score_people(network, self.target, store, store.subjects("test"), self.machine).scores
        metric = study.HEADLINE[self.target]
        mine = table[(table["metric"] == metric) & (table["class"] == "")]
        scores = mine.set_index("subject")["value"].rename(metric)
        n = people or self.counts[-1]
        self.report(
            f"{source}, {n} {'person' if n == 1 else 'people'}, seed {seed}: mean {metric} {scores.mean():.3f} "
            f"on {len(scores)} test people ({history.seconds:.0f} s)"
        )
        return Trained(network, history.losses, scores, loaded, history.seconds)

    def compare(self, sources: Sequence[str], people: int = 0) -> dict[str, pd.DataFrame]:
        """`fine_tune` from each source with each seed of the profile: for each source a table, test people x seeds."""
        return {
            source: pd.DataFrame({seed: self.fine_tune(source, people, seed).scores for seed in self.profile.seeds})
            for source in sources
        }

    def _settings(self, stage: str, folder: str, **changed: Any) -> Any:
        stages = plan.stages(self.profile, str(self.run), "", plan.cells_of(self.profile))
        found = next((s for s in stages if s.name == stage and s.folder == folder), None)
        if found is None:
            raise BadInput(
                f"the profile {self.profile.name} has no {folder}; see notebooks/profiles/{self.profile.name}.yaml"
            )
        return read_parameters(stage, {**found.parameters, **changed})


def so_far() -> None:
    """Print how long this notebook's program has run, how much processor time it took (on all cores), and its most memory."""
    me = psutil.Process()
    seconds, spent = time.time() - me.create_time(), me.cpu_times()
    print(
        f"This notebook took {seconds:.0f} s so far, {spent.user + spent.system:.0f} s of processor time (all "
        f"cores together), and at most {peak_memory_mb():.0f} MB."
    )


def _quiet(line: str) -> None:
    """What the stages report is too much for a lab."""


def open_lab(target: str = "anatomy", folder: str | Path = "lab-data", report: Callable[[str], None] = print) -> Lab:
    """The lab for a target, with its data in `folder` (from where the notebook is): simulated, made the first time."""
    name = os.environ.get(PROFILE, "course")
    profile, run = read_profile(name), Path(folder).resolve() / name
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # one thread: equal numbers on laptops with many cores and with few, and thirty students on a server do not wait for each
    # other's threads (two threads a training took seventeen times longer on two cores that others used as well)
    machine = Machine(device, "fp32", True, 1)
    torch.set_num_threads(machine.threads)
    if not (run / FILE).is_file():
        # pre-training reads how to compute; measuring it would take a quarter of a minute of a lesson
        atomic_write_text(run / FILE, sealed({**dataclasses.asdict(machine), "measured_on": "not measured"}))
    lab = Lab(profile, run, target, machine, report)
    store = lab.store
    keep_memory()  # for the trainings; making scans frees large blocks that nothing takes again
    learn, watch, test = (len(store.subjects(role)) for role in ("train", "validation", "test"))
    watched = f", {watch} to watch (validation)" if watch else ""
    report(
        f"Ready: {learn + watch + test} simulated people for {target}, {learn} to learn from{watched} and {test} for the test; "
        f"trained on the {device}."
    )
    return lab


# ------------------------------------------------------------------------------------------- what some exercises look at
def three_loadings(lab: Lab) -> dict[str, nn.Module]:
    """Networks into which the ImageNet weights were loaded, each in another way, none with an error."""
    public = imagenet_encoder_state(lab.profile.encoder)
    first = next(iter(public))
    ways = {
        "A": {name: value for name, value in public.items() if name != first},
        "B": {f"backbone.{name}": value for name, value in public.items()},
        "C": public,
    }
    made = {}
    for name, state in ways.items():
        made[name] = lab.new_network()
        encoder: Any = made[name].encoder
        encoder.load_state_dict(state, strict=False)
    return made


def labels_by_lot(people: Sequence[str], seed: int = 0) -> dict[str, int]:
    """A label, 0 or 1, drawn for each person, as many of each: there is nothing about it to be learned."""
    drawn = np.arange(len(people)) % 2
    np.random.default_rng(seed).shuffle(drawn)
    return dict(zip(people, drawn.tolist(), strict=True))


def accuracy_of_split(
    split: Callable[[np.ndarray, float, np.random.Generator], Any],
    images: np.ndarray, labels: np.ndarray, subjects: np.ndarray, share: float = 0.5, repeats: int = 20,
) -> float:  # fmt: skip
    """Share of test slices that get the label of the training slice that looks most alike, over `repeats` splits.

    split: (subjects, share, rng) -> rows to learn from, rows for the test. images: (n, H, W) uint8. NaN when `split` gives nothing.
    """
    small = images[:, ::4, ::4].reshape(len(images), -1).astype(np.float32)
    squares = (small**2).sum(axis=1)
    distance = squares[:, None] + squares[None] - 2 * small @ small.T
    found = []
    for seed in range(repeats):
        made = split(subjects, share, np.random.default_rng(seed))
        if made is None or made is ...:
            return float("nan")
        train_rows, test_rows = (np.asarray(rows, dtype=int) for rows in made)
        nearest = train_rows[distance[np.ix_(test_rows, train_rows)].argmin(axis=1)]
        found.append(float((labels[nearest] == labels[test_rows]).mean()))
    return float(np.mean(found))


def lesion_masks() -> tuple[np.ndarray, np.ndarray]:
    """A made-up slice to count by hand: reference and marks, (14, 30) bool."""
    truth, guess = np.zeros((14, 30), bool), np.zeros((14, 30), bool)
    for mask, boxes in (
        (truth, ((1, 1, 4, 4), (1, 9, 4, 4), (1, 18, 5, 5), (9, 11, 3, 4))),
        (guess, ((2, 2, 4, 4), (1, 9, 4, 4), (5, 22, 5, 5), (10, 12, 3, 4), (11, 18, 3, 3), (1, 26, 3, 3))),
    ):
        for y, x, height, width in boxes:
            mask[y : y + height, x : x + width] = True
    return truth, guess


def painted(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Two masks (H, W) in one picture (H, W, 3): the reference alone yellow, the guess alone orange, both black."""
    colours = np.array([to_rgb("white"), to_rgb(MISSED), to_rgb(FALSE), to_rgb("black")])
    return colours[truth.astype(int) + 2 * guess.astype(int)]


def simulated_finding(seed: int = 3) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """A simulated person's MS lesions and marks that nearly fit: (marks, reference, spacing in mm), masks (X, Y, Z) bool.

    Every other mark is a lesion moved by a voxel, the others are moved along two axes; every fifth lesion is left out, and some
    marks are invented.
    """
    spacing = 2.0
    person = next(simulated_target("ms", 1, spacing, seed))
    reference = person.mask > 0
    kept, n = ndimage.label(reference, np.ones((3, 3, 3)))
    marks = np.zeros_like(reference)
    for k in (k for k in range(1, n + 1) if k % 5):
        marks |= np.roll(kept == k, (1, k % 2), axis=(0, 1))
    rng = np.random.default_rng(seed)
    inside = np.argwhere(
        ndimage.binary_erosion(person.brain > 0, iterations=4) & ~ndimage.binary_dilation(reference, iterations=4)
    )
    for x, y, z in rng.permutation(inside)[: max(2, n // 4)]:
        marks[x : x + 2, y : y + 2, z : z + 2] = True
    return marks, reference, (spacing,) * 3


# ---------------------------------------------------------------------------------------------- the run on real scans
def book_scores(target: str, source: str, metric: str) -> pd.DataFrame:
    """Scores of the finished run on real scans, test people x seeds."""
    results = read_results(_reference() / "results.csv")
    wanted = (results["target"] == target) & (results["source"] == source) & (results["metric"] == metric)
    chosen = results[wanted & (results["class"] == "") & (results["arm"] == "main")]
    return chosen.pivot_table(index="subject", columns="seed", values="value")


def book_claims() -> list[dict[str, Any]]:
    """The contrasts of that run, as its rules judged them."""
    found: list[dict[str, Any]] = read_json(_reference() / "compare" / "claims.json", [])
    return found


def _reference() -> Path:
    folder = project_root() / "book" / "reference" / REFERENCE
    if not folder.is_dir():
        raise BadInput(f"{folder} is missing; take a complete copy of the project")
    return folder
