"""Real lesion masks set into real T1 of people without known lesion: one person and one mask make one subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braintransfer import study
from braintransfer.errors import BadInput
from braintransfer.provenance import digest, sha256_file
from braintransfer.recipes.files import match_files, scan_files
from braintransfer.recipes.registration import Alignment, align_to_template
from braintransfer.recipes.samples import SubjectScan
from braintransfer.recipes.scans import read_subject_scan
from braintransfer.recipes.schema import Library, Recipe
from braintransfer.simulate import lesions as drawing
from braintransfer.simulate.lesions import Contrast, insert_ms, insert_stroke
from braintransfer.volumes import Scan, read_mask, resample

#: A mask is passed over when less than this share of it falls into the person's brain.
KEPT_SHARE = 0.7
#: Volumes within a quarter of each other count as alike (log).
NEAR = float(np.log(1.25))
#: Darker than this share of the brain's bright tissue is CSF: no MS lesion is drawn there.
CSF_LEVEL = 0.5

_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def drawn_by(recipe: Recipe) -> str:
    """Digest of what draws a recipe's lesions: its `lesions` and two modules. A null check holds for this and no other."""
    assert recipe.lesions is not None
    modules = [sha256_file(Path(file)) for file in (drawing.__file__, __file__)]
    return digest([recipe.lesions.model_dump(mode="json"), *modules])


@dataclass(frozen=True)
class LesionMask:
    """One mask of a library in MNI space; `mirror` when left and right change places."""

    path: Path
    millilitres: float
    mirror: bool
    library: str = ""
    name: str = ""


def survey(library: Library, root: Path, rng: np.random.Generator) -> list[LesionMask]:
    """The masks of a library that may be used, with their volumes: reads each once (about 30 ms a mask)."""
    found = []
    for path, fields in match_files(root, library.pattern):
        if any(word in path.relative_to(root).parts or word == path.name for word in library.exclude):
            continue
        mask, affine = _read(path)
        mirror = bool(rng.random() < 0.5) if library.mirror else False
        inside = _box(mask)
        if inside is None:
            continue
        cut = any(s.start == 0 or s.stop == n for s, n in zip(inside, mask.shape, strict=True))
        if (library.uncut and cut) or (library.one_sided and _two_sided(mask, inside, affine)):
            continue
        volume = float(mask[inside].sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
        found.append(
            LesionMask(path, volume, mirror, library.recipe, fields.get("sample") or fields.get("subject") or path.name)
        )
    if not found:
        raise BadInput(f"{root}: no usable lesion mask fits {library.pattern}; get the library, or mend the recipe")
    return found


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel as nib

    return read_mask(path, values={0, 1}) > 0, np.asarray(nib.load(path).affine)  # type: ignore[attr-defined]


def _box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    if not mask.any():
        return None
    sides = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    x, y, z = (slice(int(s[0]), int(s[-1]) + 1) for s in sides)
    return x, y, z


def _two_sided(mask: np.ndarray, inside: tuple[slice, slice, slice], affine: np.ndarray) -> bool:
    points = np.argwhere(mask[inside]) + [s.start for s in inside]
    x = points @ affine[0, :3] + affine[0, 3]
    return bool((x > 0).any() and (x < 0).any())


def place(mask: LesionMask, scan: Scan, alignment: Alignment) -> np.ndarray:
    """The mask on the scan's own grid as bool (X, Y, Z): linear, half covered counts."""
    values, affine = _read(mask.path)
    inside = _box(values)
    assert inside is not None
    start = np.eye(4)
    start[:3, 3] = [s.start for s in inside]
    affine = affine @ start
    if mask.mirror:
        affine = _MIRROR @ affine
    to_scan = np.linalg.inv(alignment.scan_to_template) @ affine
    shape = (scan.data.shape[0], scan.data.shape[1], scan.data.shape[2])
    return resample(values[inside], to_scan, shape, scan.affine, antialias=False) >= 0.5


def semisynthetic_scans(
    recipe: Recipe,
    background: Recipe,
    libraries: list[tuple[Library, Path]],
    data_root: Path | str | None,
    limit: int,
    seed: int,
    contrast: Contrast = "real",
) -> Iterator[SubjectScan]:
    """`limit` subjects (0: as many as there are people and masks), each a person with one mask that nobody else has.

    Who gets which mask follows from `seed` alone: fewer subjects are the first of more, and `contrast` changes only
    intensities. The reference is the mask inside the brain (MS: and not in CSF). `insert_*` draw with their own stream.
    """
    assert recipe.lesions is not None
    people = scan_files(background, data_root)
    people = [people[i] for i in study.stream(seed, "people").permutation(len(people))]
    if len({p.subject for p in people}) < len(people):
        raise BadInput(f"recipe {recipe.name}: {background.name} has several scans of a person; one each is needed")
    mirrors = study.stream(seed, "mirror")
    unused = [mask for library, root in libraries for mask in survey(library, root, mirrors)]
    draw = study.stream(seed, "lesion-volumes")
    made = 0
    for files in people[: limit or len(people)]:
        if not unused:
            break
        person = read_subject_scan(background, files)
        alignment = align_to_template(person.image, person.brain)
        mask, lesion, kept = _next_mask(recipe, unused, person, alignment, draw)
        insert = insert_stroke if recipe.lesions.kind == "stroke" else insert_ms
        spacing = (float(person.image.spacing[0]), float(person.image.spacing[1]), float(person.image.spacing[2]))
        drawn = insert(
            person.image.data, person.brain, lesion, study.stream(seed, f"insert:{person.scan}"), spacing, contrast
        )
        image = Scan(np.asarray(drawn, np.float32), person.image.affine, person.image.spacing, person.image.path)
        notes: dict[str, object] = {
            "mask": f"{mask.library}/{mask.name}",
            "mirrored": mask.mirror,
            "lesion_ml": round(float(lesion.sum() * np.prod(spacing) / 1000), 3),
            "share_of_mask_in_brain": round(kept, 3),
            "alignment_overlap": round(alignment.overlap, 3),
            "contrast": contrast,
        }
        yield SubjectScan(
            person.subject, person.scan, person.site, person.age, image, lesion.astype(np.uint8), person.brain, notes
        )
        made += 1
    if limit > made:
        raise BadInput(f"recipe {recipe.name}: {limit} subjects asked for, people and masks make {made}; ask for fewer")


def _next_mask(
    recipe: Recipe, unused: list[LesionMask], person: SubjectScan, alignment: Alignment, draw: np.random.Generator
) -> tuple[LesionMask, np.ndarray, float]:
    """Take from `unused` the first mask, in order of fit, that lies in this brain."""
    assert recipe.lesions is not None
    if recipe.lesions.median_ml is not None and recipe.lesions.sigma is not None:
        wanted = recipe.lesions.median_ml * np.exp(recipe.lesions.sigma * draw.standard_normal())
        wanted *= abs(np.linalg.det(alignment.scan_to_template[:3, :3]))  # template brains are larger than people's
        apart = np.array([abs(np.log(m.millilitres / wanted)) for m in unused])
        # Among masks of about that volume the libraries take turns by chance: SOOP alone would have a closer one every time.
        turn = str(draw.choice(sorted({m.library for m in unused})))
        lot = draw.random(len(unused))
        rank = [
            (0, m.library != turn, r) if a < NEAR else (1, False, a) for m, a, r in zip(unused, apart, lot, strict=True)
        ]
        order = np.array(sorted(range(len(unused)), key=lambda i: rank[i]))
    else:
        order = draw.permutation(len(unused))
    room = person.brain
    if recipe.lesions.kind == "ms":
        # Aligned only affinely, some lesions beside a ventricle would reach into it.
        room = room & (person.image.data > CSF_LEVEL * np.percentile(person.image.data[person.brain], 90))
    for i in order:
        placed = place(unused[i], person.image, alignment)
        lesion = placed & room
        kept = float(lesion.sum() / max(placed.sum(), 1))
        if lesion.any() and kept >= KEPT_SHARE:
            return unused.pop(i), lesion, kept
    raise BadInput(f"{person.image.path}: none of {len(unused)} masks falls into this brain; check its orientation")
