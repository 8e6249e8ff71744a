"""What every source of a cell has in common, recorded beside each training, so that `compare` can prove it equal."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from braintransfer.machine import Machine
from braintransfer.training import Schedule

#: Batches of a training whose views are recorded.
BATCHES = 4


def training_facts(
    batches: Iterable[tuple[Tensor, Tensor]],
    order: np.ndarray,
    schedule: Schedule,
    machine: Machine,
    seen: Sequence[int] = (0, 1),
) -> dict[str, Any]:
    """What a training is made of besides its first weights, JSON-able: order and views as SHA-256, the schedule, the machine.

    batches: the first BATCHES of the training (`training.first_batches`); views are their bytes as the network meets them.
    order: (steps, batch) rows, all of them. seen: which of the two things that a batch holds count (0 the input, 1 what is to
    be learned).
    """
    views = hashlib.sha256()
    for batch in batches:
        for part in seen:
            views.update(f"{tuple(batch[part].shape)} {batch[part].dtype}\n".encode())
            views.update(batch[part].cpu().contiguous().numpy().tobytes())
    return {
        "order": hashlib.sha256(f"{order.shape}\n".encode() + np.ascontiguousarray(order).tobytes()).hexdigest(),
        "views": views.hexdigest(),
        **dataclasses.asdict(schedule),
        **dataclasses.asdict(machine),
    }
