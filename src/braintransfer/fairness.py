"""What every source of a cell has in common, recorded beside each training, so that `compare` can prove it equal."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from braintransfer.machine import Machine
from braintransfer.training import MakeBatch, Read, Schedule

#: Batches of a training whose views are recorded.
BATCHES = 4


def training_facts(
    read: Read,
    order: np.ndarray,
    make_batch: MakeBatch,
    *,
    schedule: Schedule,
    machine: Machine,
    seed: int,
    seen: Sequence[int] = (0, 1),
) -> dict[str, Any]:
    """What a training is made of besides its first weights, JSON-able: order and views as SHA-256, the schedule, the machine.

    order: (steps, batch) rows, all of them. views: the bytes of the first BATCHES batches as the network meets them, drawn
    once more from the same `seed` as `fit` draws them; first_view: those of the first alone. seen: which of the two things
    that make_batch gives count (0 the input, 1 what is to be learned).
    """
    generator = torch.Generator(machine.device).manual_seed(seed)
    total = hashlib.sha256()
    first = ""
    for rows in order[:BATCHES]:
        batch = make_batch(read(rows), generator, schedule, machine)
        for part in seen:
            total.update(f"{tuple(batch[part].shape)} {batch[part].dtype}\n".encode())
            total.update(batch[part].cpu().contiguous().numpy().tobytes())
        first = first or total.hexdigest()
    return {
        "order": hashlib.sha256(f"{order.shape}\n".encode() + np.ascontiguousarray(order).tobytes()).hexdigest(),
        "first_view": first,
        "views": total.hexdigest(),
        **dataclasses.asdict(schedule),
        **dataclasses.asdict(machine),
    }
