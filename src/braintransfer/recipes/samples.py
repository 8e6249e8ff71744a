"""What a data set gives to the study: one picture of a source, or one scan of a person."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from braintransfer.volumes import Scan


@dataclass(frozen=True)
class SourceImage:
    """One picture of a pre-training source.

    `subject` is the group to split by (person, video, block; else the file itself), `scan` the file's own name.
    `image` is uint8 (H, W) or (H, W, 3); `mask` is uint8 (H, W) with 0 background and 1 object; `label` names the class.
    """

    subject: str
    scan: str
    image: np.ndarray
    mask: np.ndarray
    label: str


@dataclass(frozen=True)
class SubjectScan:
    """One scan of one person with its reference, on the scan's own grid.

    `mask` is uint8 (X, Y, Z): 0 background, k + 1 the target's class k; `brain` is bool (X, Y, Z).
    `age` is in years or None; `site` is "" where the set has none. `notes` are plain values (numbers, text) to report.
    """

    subject: str
    scan: str
    site: str
    age: float | None
    image: Scan
    mask: np.ndarray
    brain: np.ndarray
    notes: dict[str, object] = field(default_factory=dict)
