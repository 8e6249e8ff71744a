"""The study as a table: sources x targets x folds x seeds, and the random streams that one seed stands for."""

from __future__ import annotations

import hashlib

import numpy as np

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

ARMS = [
    "main",
    "shuffled_masks",
    "scratch_long",
    "frozen_random",
    "moment_matched",
    "decoder_transfer",
    "contrastive",
    "grey_natural",
    "axial_mri",
    "cross_target",
    "tuned_rate",
]
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
