"""Simulated data sets: T1 brains with lesions and tissue labels, enhancing masses on slices, composited photographs.

Everything is honest about being simulated: all brains are one template, bent, and the photographs are the few that come
with scikit-image and scikit-learn. One seed gives the same bytes; each subject has its own random stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from braintransfer.study import TARGETS, stream

if TYPE_CHECKING:
    from braintransfer.recipes.samples import SourceImage, SubjectScan
    from braintransfer.simulate.lesions import Contrast


def simulated_natural(n: int, size: int, seed: int) -> Iterator[SourceImage]:
    """`n` composited photographs, `size` px: see `scenes.simulated_natural`."""
    from braintransfer.simulate import scenes

    return scenes.simulated_natural(n, size, seed)


def simulated_mri(n: int, size: int, seed: int) -> Iterator[SourceImage]:
    """`n` slices with enhancing masses, `size` px: see `tumours.simulated_mri`."""
    from braintransfer.simulate import tumours

    return tumours.simulated_mri(n, size, seed)


def simulated_target(
    target: str, n_subjects: int, spacing_mm: float, seed: int, contrast: Contrast = "demo"
) -> Iterator[SubjectScan]:
    """Simulated people for one target, each on an own grid of `spacing_mm` in a random on-disk orientation.

    Subject k is the same whatever `n_subjects` is. contrast: "demo" draws MS lesions of at least 64 mm³ at .45-.75 of white
    matter; "real" draws sizes and contrasts as measured; a number inserts all lesions at that contrast. Stroke and anatomy
    do not differ between "demo" and "real". Masks: lesion 1; anatomy 1 ventricular CSF, 2 grey, 3 white matter.
    """
    from braintransfer.recipes.samples import SubjectScan
    from braintransfer.simulate.brains import finish, render, simulate_anatomy
    from braintransfer.simulate.lesions import insert_ms, insert_stroke
    from braintransfer.simulate.shapes import ms_lesions, stroke_lesion
    from braintransfer.volumes import Scan

    if target not in TARGETS:
        raise ValueError(f"no target {target!r}; there are {', '.join(TARGETS)}")
    for index in range(n_subjects):
        subject = f"sim-{target}-{index + 1:03d}"
        rng = stream(seed, f"simulation/{target}/{index}")
        person = simulate_anatomy(rng, spacing_mm)
        notes: dict[str, object] = {}
        mask = person.labels
        if target == "ms":
            mask = ms_lesions(person, rng, demo=contrast == "demo").astype(np.uint8)
        elif target == "stroke":
            lesion, person, notes = stroke_lesion(person, rng)
            mask = lesion.astype(np.uint8)
        t1, drawn = render(rng, person)
        spacing = (spacing_mm,) * 3
        white = person.labels == 3
        if target == "ms":
            t1 = insert_ms(t1, person.brain, mask, rng, spacing, contrast, white)
        elif target == "stroke":
            t1 = insert_stroke(t1, person.brain, mask, rng, spacing, contrast, white)
        scan = finish(rng, person, t1, mask, {**notes, **drawn})
        yield SubjectScan(
            subject=subject,
            scan=subject,
            site="",
            age=round(person.age, 1),
            image=Scan(scan.t1, scan.affine, np.full(3, spacing_mm), Path("simulated") / f"{subject}.nii.gz"),
            mask=scan.labels,
            brain=scan.brain,
            notes=scan.notes,
        )
