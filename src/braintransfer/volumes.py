"""Reading scans, and moving images and labels between a scan's own grid and the study's working grid.

The order is the same everywhere: canonical orientation (RAS) -> spacing -> brain crop -> percentile clip -> uint8.
World coordinates are millimetres, x to the subject's right, y to the front, z up (NIfTI).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from scipy import ndimage

from braintransfer.errors import BadInput
from braintransfer.untrusted import check_nifti_notes, check_size

AFFINE_TOLERANCE_MM = 1e-3
"""A mask belongs to a scan when no corner of the volume moves further than this between their two affines."""

#: Voxels finer or coarser than this, volumes farther from the origin and brains larger than this come from a wrong header; a
#: working grid made for them would fill the memory.
FINEST_MM, COARSEST_MM, FARTHEST_MM, LARGEST_BRAIN_MM = 0.01, 100.0, 1e5, 1000.0

#: Endings of compressed files that are not read; .gz and .bz2 are.
NOT_UNPACKED = (".zst", ".xz", ".z", ".zip", ".7z")

_FWHM_PER_SIGMA = 2.3548200450309493  # sqrt(8 ln 2)


@dataclass(frozen=True)
class Scan:
    """One volume as it lies on disk: `data` float32 (X, Y, Z), `affine` (4, 4) voxel to world mm, `spacing` (3,) mm."""

    data: np.ndarray
    affine: np.ndarray
    spacing: np.ndarray
    path: Path


@dataclass(frozen=True)
class Grid:
    """The working grid of one scan: RAS axes, isotropic, x and y of a fixed size, z as high as the brain.

    `affine` maps voxel to world mm as nested tuples, so that the grid can be written as JSON (`dataclasses.asdict`) and
    read back (`grid_from`). `outside` counts the voxels of the scan's brain that lie beyond the grid.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, float, float, float], ...]
    outside: int = 0

    @property
    def matrix(self) -> np.ndarray:
        """The affine as a float64 (4, 4) array."""
        return np.asarray(self.affine, dtype=float)

    @property
    def spacing(self) -> float:
        """The isotropic voxel size in mm."""
        return float(np.linalg.norm(self.matrix[:3, 0]))


def grid_from(values: Mapping[str, object]) -> Grid:
    """The grid that `dataclasses.asdict` wrote, after a way through JSON."""
    shape: tuple[int, int, int] = tuple(int(n) for n in values["shape"])  # type: ignore[attr-defined, assignment]
    rows = tuple(tuple(float(x) for x in row) for row in values["affine"])  # type: ignore[attr-defined]
    return Grid(shape, rows, int(values.get("outside", 0)))  # type: ignore[arg-type, call-overload]


# ------------------------------------------------------------------------------------------------ reading


def _load(path: Path, what: str, channel: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The raw values (X, Y, Z) and the affine of a file that nibabel reads; one line of BadInput for one that it does not.

    channel: which volume of a 4-D file; only that one is read. A 3-D file has no channels to choose from, and is read whole.
    """
    if not path.is_file():
        raise BadInput(f"{path}: {what} is missing; check the path, or run `braintransfer data check` on the set")
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: {what} is an empty file (0 bytes); download it again")
    if path.suffix.lower() in NOT_UNPACKED:
        raise BadInput(
            f"{path}: {what} is packed as {path.suffix}, which is not read; unpack it, or save it as .nii.gz"
        )
    try:
        check_nifti_notes(path)
        image = nib.load(path)
        values = getattr(image, "dataobj", None)
        if not isinstance(values, ArrayProxy):
            raise BadInput(f"{path}: {what} is a {type(image).__name__}; convert it to NIfTI")
        if values.dtype.kind not in "biuf":
            raise BadInput(
                f"{path}: {what} holds {values.dtype} values, not plain numbers; convert it to a scalar volume"
            )
        check_size(path, values.shape, values.dtype.itemsize, int(values.offset))
        if len(values.shape) <= 3:
            channel = None
        last = values.shape[-1] if len(values.shape) > 3 else 1
        if channel is None and any(n != 1 for n in values.shape[3:]):
            raise BadInput(
                f"{path}: {what} is {values.ndim}-D {values.shape}, not one 3-D volume; say which with `volume.channel` in the "
                "recipe, or extract one volume first"
            )
        if channel is not None and not 0 <= channel < last:
            raise BadInput(
                f"{path}: {what} has the channels 0 to {last - 1}, not {channel}; mend `volume.channel` in the recipe"
            )
        stored = np.asanyarray(values if channel is None else values[..., channel])
        affine = np.array(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    except BadInput:
        raise
    except (ImageFileError, HeaderDataError) as error:
        raise BadInput(f"{path}: {what} is not a readable volume ({_one_line(error)}); download it again") from error
    except Exception as error:  # whatever a torn or forged file makes its reader raise
        raise BadInput(f"{path}: {what} is torn or truncated ({_one_line(error)}); download it again") from error
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 3:
        raise BadInput(
            f"{path}: {what} is {stored.ndim}-D {stored.shape}, not one 3-D volume; say which with `volume.channel` in the recipe, "
            "or extract one volume first"
        )
    if stored.size == 0:
        raise BadInput(f"{path}: {what} holds no voxels {stored.shape}; export it again")
    if not np.isfinite(affine).all():
        raise BadInput(f"{path}: {what} has an affine that is not finite; set its orientation in the header")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (
        not ((spacing > FINEST_MM) & (spacing < COARSEST_MM)).all()
        or np.abs(affine).max() > FARTHEST_MM
        or abs(np.linalg.det(affine[:3, :3] / np.where(spacing > 0, spacing, 1))) < 1e-3
    ):
        shown = ", ".join(f"{s:g}" for s in spacing)
        raise BadInput(
            f"{path}: {what} has an impossible affine (spacing {shown} mm, or axes in one plane); mend its header"
        )
    return stored, affine


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def read_scan(path: Path | str, channel: int | None = None, stored_axes: str = "") -> Scan:
    """Read one scan in its own orientation; of a 4-D file only `channel`, counted from 0.

    stored_axes: where the stored axes run ("LAS"), for files whose headers do not say it; then they are not asked.
    Returns float32 (X, Y, Z) with voxels that are not finite set to 0 (skull-strippers write NaN there). Trailing axes of
    length 1 are dropped. BadInput, one line that names the file: missing, truncated, more than one volume, no voxels,
    constant, all NaN, impossible affine or spacing, a header without orientation (Analyze has none, NIfTI may have none).
    """
    path = Path(path)
    stored, affine = _load(path, "scan", channel)
    if stored_axes:
        affine = affine_of_axes(stored_axes, stored.shape, np.linalg.norm(affine[:3, :3], axis=0))
    elif why := _without_orientation(path):
        raise BadInput(
            f"{path}: its header does not say which way is left or up ({why}); export it again, or say it with "
            "`volume: {stored_axes: LAS}` (or what it is) in the recipe"
        )
    data = np.array(stored, dtype=np.float32, order="C")
    finite = np.isfinite(data)
    if not finite.any():
        raise BadInput(f"{path}: scan holds no number (all NaN or infinite); export it again")
    if not finite.all():
        data[~finite] = 0
    if data.min() == data.max():
        raise BadInput(f"{path}: scan is empty (every voxel is {data.flat[0]:g}); export it again")
    return Scan(data, affine, np.linalg.norm(affine[:3, :3], axis=0), path)


def _without_orientation(path: Path) -> str:
    """Why nibabel's affine of this file is a guess; empty where its header says it."""
    image = nib.load(path)
    if not isinstance(image, nib.AnalyzeImage):
        return ""
    if not isinstance(image, nib.Nifti1Pair):
        return "Analyze keeps no orientation"
    said = int(image.header["sform_code"]) or int(image.header["qform_code"])
    return "" if said else "qform_code and sform_code are 0"


def read_mask(
    path: Path | str,
    like: Scan | None = None,
    values: set[int] | frozenset[int] | None = None,
    labels: Mapping[int, int] | None = None,
    threshold: float | None = None,
    same_voxels: bool = False,
) -> np.ndarray:
    """Read one mask as uint8 (X, Y, Z) of class indices.

    `like` is the scan it belongs to: shape and affine must agree (`AFFINE_TOLERANCE_MM` at the corners). `values` are the
    values that may occur in the file (default: 0 and the keys of `labels`; anything from 0 to 255 where neither is given);
    `labels` maps a file value to our class index, values it does not name become 0. `threshold`: values above it are 1,
    the others 0, before anything else; for probabilities. `same_voxels`: only the shape must agree with the scan's, for sets
    whose masks have wrong headers but lie voxel on voxel. BadInput in one line otherwise.
    """
    path = Path(path)
    stored, affine = _load(path, "mask")
    if like is not None:
        if stored.shape != like.data.shape:
            raise BadInput(
                f"{path}: mask has shape {stored.shape}, its scan {like.path.name} has {like.data.shape}; "
                "resample the mask onto the scan"
            )
        apart = 0.0 if same_voxels else corner_distance(affine, like.affine, stored.shape)
        if apart > AFFINE_TOLERANCE_MM:
            raise BadInput(
                f"{path}: mask and scan {like.path.name} have different affines (corners {apart:.3g} mm apart, "
                f"{AFFINE_TOLERANCE_MM:g} allowed): mask {_rows(affine)}, scan {_rows(like.affine)}; resample the mask onto the scan"
            )
    if threshold is not None:
        if not np.isfinite(stored).all():
            raise BadInput(f"{path}: mask holds NaN or infinite values; export it again")
        stored = (stored > threshold).astype(np.uint8)
    # Only labelled voxels are looked at: most of a mask is 0, and masks are large.
    labelled = stored != 0
    rounded = _whole_numbers(stored[labelled], path)
    found: dict[int, int] = {} if labelled.all() else {0: int(labelled.size - rounded.size)}
    low, high = (int(rounded.min()), int(rounded.max())) if rounded.size else (0, 0)
    if high - low > 2**16:
        raise BadInput(f"{path}: mask holds values from {low} to {high}; is it a scan? Give labels")
    counts = np.bincount(rounded - low, minlength=1)
    found |= {low + int(i): found.get(low + int(i), 0) + int(counts[i]) for i in np.flatnonzero(counts)}
    allowed = _allowed(values, labels)
    odd = [v for v in found if v not in allowed]
    if odd:
        shown = ", ".join(f"{v} ({found[v]} voxels)" for v in odd[:4]) + (" ..." if len(odd) > 4 else "")
        expected = sorted(allowed) if len(allowed) < 12 else f"{min(allowed)} to {max(allowed)}"
        raise BadInput(f"{path}: mask holds unexpected values {shown}; expected {expected}, see `labels` of the recipe")
    table = np.zeros(high - low + 1, dtype=np.uint8)
    for file_value in found:
        if low <= file_value <= high:
            table[file_value - low] = file_value if labels is None else labels.get(file_value, 0)
    result = np.full(stored.shape, 0 if labels is None else labels.get(0, 0), dtype=np.uint8)
    result[labelled] = table[rounded - low]
    return result


def _whole_numbers(labelled: np.ndarray, path: Path) -> np.ndarray:
    """Label values as int64; BadInput for NaN and for fractions."""
    if labelled.dtype.kind in "biu":
        return labelled.astype(np.int64)
    rounded = np.rint(labelled)
    apart = np.abs(labelled - rounded)
    if apart.size and not np.isfinite(apart).all():
        raise BadInput(f"{path}: mask holds NaN or infinite values; export it again")
    if apart.size and apart.max() > 1e-3:
        example = float(labelled[apart.argmax()])
        raise BadInput(
            f"{path}: mask holds fractions such as {example:.4g}; give labels, not probabilities, "
            "or say with `volume.threshold` in the recipe from where on they count"
        )
    return rounded.astype(np.int64)


def _allowed(values: set[int] | frozenset[int] | None, labels: Mapping[int, int] | None) -> frozenset[int]:
    if values is not None:
        return frozenset(int(v) for v in values)
    if labels is not None:
        return frozenset(int(v) for v in labels) | {0}
    return frozenset(range(256))


def _rows(affine: np.ndarray) -> str:
    return "[" + "; ".join(" ".join(f"{x:.6g}" for x in row) for row in affine[:3]) + "]"


def corner_distance(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance in mm between where two affines put the eight corners of a volume of `shape`."""
    corners = np.array(
        [[i, j, k, 1.0] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)]
    )
    return float(np.linalg.norm(corners @ (np.asarray(a) - np.asarray(b)).T[:, :3], axis=1).max())


def affine_of_axes(axes: str, shape: tuple[int, ...], spacing: np.ndarray) -> np.ndarray:
    """The affine of a volume whose stored axes run towards `axes` ("LAS": left, front, up), centred on world 0.

    For files whose headers keep no orientation. spacing: (3,) mm along the stored axes.
    """
    orientation = nib.orientations.axcodes2ornt(tuple(axes))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(orientation):
        affine[int(world), axis] = sign * spacing[axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def brain_of(data: np.ndarray) -> np.ndarray:
    """The brain of a skull-stripped scan as bool (X, Y, Z): the largest piece that is not exactly 0, its holes filled.

    Not "above 0": some sets hold negative values inside the brain.
    """
    result = np.zeros(data.shape, dtype=bool)
    filled = data != 0
    if not filled.any():
        return result
    sides = [np.flatnonzero(filled.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(int(side[0]), int(side[-1]) + 1) for side in sides)
    pieces, _ = ndimage.label(filled[box])
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    result[box] = ndimage.binary_fill_holes(pieces == sizes.argmax())
    return result


# ------------------------------------------------------------------------------------------- the working grid


def _canonical(shape: tuple[int, ...], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The flips and axis order that bring a volume to RAS, and its affine afterwards."""
    orientation = nib.orientations.io_orientation(affine)
    return orientation, affine @ nib.orientations.inv_ornt_aff(orientation, shape)


def _nearest_rotation(axes: np.ndarray) -> np.ndarray:
    """The rotation nearest to three (perhaps sheared) unit axes, by singular value decomposition."""
    u, _, v = np.linalg.svd(axes / np.linalg.norm(axes, axis=0))
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    return u @ flip @ v


def working_grid(scan: Scan, brain: np.ndarray, spacing: float, size: tuple[int, int]) -> Grid:
    """The working grid of `scan`: RAS along the scan's own (nearest) axes, isotropic `spacing` mm, centred on the brain.

    `brain`: bool (X, Y, Z) on the scan's own grid. `size` is (H, W): H voxels from front to back (y), W from right to
    left (x); in z there are as many slices as hold brain. The grid sits on the scan's own voxel centres where the
    spacings agree, so that nothing is interpolated then. Shears are undone, not kept. BadInput for an empty brain.
    """
    if brain.shape != scan.data.shape:
        raise BadInput(f"{scan.path}: brain mask has shape {brain.shape}, scan has {scan.data.shape}; make it again")
    if not brain.any():
        raise BadInput(f"{scan.path}: brain mask is empty; check the skull-stripping, or the recipe's `brain`")
    if not spacing > 0:
        raise BadInput(f"{scan.path}: spacing must be above 0 mm, not {spacing:g}")
    _, canonical = _canonical(scan.data.shape, scan.affine)
    rotation = _nearest_rotation(canonical[:3, :3])
    # The two ends of each line of brain voxels hold the extremes of any linear map, at a hundredth of the points.
    to_axes = rotation.T @ scan.affine[:3, :3], rotation.T @ scan.affine[:3, 3]
    along = _line_ends(brain) @ to_axes[0].T + to_axes[1]
    low, high = along.min(axis=0), along.max(axis=0)
    if (high - low).max() > LARGEST_BRAIN_MM:
        raise BadInput(
            f"{scan.path}: its brain would be {(high - low).max():.0f} mm long; mend the spacing in its header"
        )
    lattice = rotation.T @ canonical[:3, 3]  # where the scan's first voxel lies along the grid's axes
    count = np.array([size[1], size[0], 0])
    origin = (low + high) / 2 - spacing * (count - 1) / 2
    origin[2] = low[2]
    steps = (origin - lattice) / spacing
    # 1e-6 of a voxel: float noise must not cost a slice.
    whole = np.array([np.round(steps[0]), np.round(steps[1]), np.floor(steps[2] + 1e-6)])
    origin = lattice + spacing * whole
    count[2] = int(np.ceil((high[2] - origin[2]) / spacing - 1e-6)) + 1
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = rotation @ origin
    affine = np.round(affine, 9) + 0.0  # no -0.0 in the JSON
    rows = tuple(tuple(float(x) for x in row) for row in affine)
    shape = (int(count[0]), int(count[1]), int(count[2]))
    lost = _count_beyond(brain, np.linalg.inv(affine) @ scan.affine, count)
    return Grid(shape, rows, lost)  # type: ignore[arg-type]


def size_for(scan: Scan, brain: np.ndarray, spacing: float) -> tuple[int, int]:
    """The smallest (H, W), in steps of 32, whose working grid holds all of `brain` (bool, own grid)."""
    height, width = 32, 32
    while working_grid(scan, brain, spacing, (height, 4096)).outside:
        height += 32
    while working_grid(scan, brain, spacing, (height, width)).outside:
        width += 32
    return height, width


def _count_beyond(brain: np.ndarray, to_index: np.ndarray, count: np.ndarray) -> int:
    def beyond(points: np.ndarray) -> np.ndarray:
        at = points @ to_index[:3, :3].T + to_index[:3, 3]
        return ((at < -0.5 - 1e-6) | (at > count - 0.5 + 1e-6)).any(axis=1)

    # The grid is convex: where both ends of each line are inside, all is.
    return int(beyond(np.argwhere(brain)).sum()) if beyond(_line_ends(brain)).any() else 0


def _line_ends(brain: np.ndarray) -> np.ndarray:
    """Indices (N, 3) of the first and last voxel of `brain` on each line along the third axis."""
    filled = np.argwhere(brain.any(axis=2))
    lines = brain[filled[:, 0], filled[:, 1]]
    first, last = lines.argmax(axis=1), brain.shape[2] - 1 - lines[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([filled, first]), np.column_stack([filled, last])])


# ------------------------------------------------------------------------------------------------ resampling


def _antialias_sigma(own: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Gaussian sigma, in own voxels, that widens a point spread of one own voxel (FWHM) to one new voxel."""
    return np.sqrt(np.maximum(new**2 - own**2, 0)) / _FWHM_PER_SIGMA / own


def resample(
    volume: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    new_affine: np.ndarray,
    order: int = 1,
    outside: float = 0.0,
    antialias: bool = True,
) -> np.ndarray:
    """`volume` (X, Y, Z) on the grid `affine`, sampled on the grid `new_affine` of `shape`; float32.

    `order` is the spline's (1 = linear); `outside` the value beyond the volume. With `antialias`, axes that get coarser
    are first smoothed to the new voxel's width. Exact (no interpolation) where voxel centres coincide.
    """
    turning, turned_affine = _canonical(shape, new_affine)
    turned_shape = _turned_shape(shape, turning)
    result = _resample_canonical(volume, affine, turned_shape, turned_affine, order, outside, antialias)
    back = nib.orientations.ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), turning)
    return np.ascontiguousarray(nib.orientations.apply_orientation(result, back))


def _turned_shape(shape: tuple[int, int, int], turning: np.ndarray) -> tuple[int, int, int]:
    turned = [0, 0, 0]
    for axis, to in enumerate(turning[:, 0].astype(int)):
        turned[to] = shape[axis]
    return turned[0], turned[1], turned[2]


def _resample_canonical(
    volume: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    new_affine: np.ndarray,
    order: int,
    outside: float,
    antialias: bool,
) -> np.ndarray:
    """`resample` onto a grid that is RAS already; the volume is turned to RAS first, so that its axes meet the grid's."""
    orientation, canonical = _canonical(volume.shape, affine)
    turned = nib.orientations.apply_orientation(np.asarray(volume), orientation)
    own = np.linalg.norm(canonical[:3, :3], axis=0)
    matrix = np.linalg.inv(canonical) @ new_affine
    new = np.linalg.norm(matrix[:3, :3], axis=1) * own  # the new voxel's width along each own axis
    sigma = _antialias_sigma(own, new) if antialias else np.zeros(3)
    data = turned.astype(np.float32, copy=False)
    if (sigma > 0.05).any():
        data = ndimage.gaussian_filter(
            data, np.where(sigma > 0.05, sigma, 0), mode="constant", cval=outside, truncate=3
        )
    # Float noise of 1e-15 in the coordinates would send border voxels out of the volume.
    linear, offset = np.round(matrix[:3, :3], 10), np.round(matrix[:3, 3], 7)
    on_axes = np.count_nonzero(linear - np.diag(np.diag(linear))) == 0 and (np.diag(linear) > 0).all()
    if on_axes and np.array_equal(np.diag(linear), np.ones(3)) and np.array_equal(offset, np.round(offset)):
        return _shifted(data, offset.astype(int), shape, outside)
    if on_axes and order == 1:
        x, y, z = (
            _linear_weights(offset[axis] + linear[axis, axis] * np.arange(shape[axis]), data.shape[axis])
            for axis in range(3)
        )
        data = data - np.float32(outside) if outside else data
        # Three small matrix products: scipy's result (mode "grid-constant"), twenty times faster.
        data = (x @ data.reshape(len(data), -1)).reshape(len(x), *data.shape[1:])
        return np.matmul(np.matmul(y, data), z.T) + np.float32(outside)
    return ndimage.affine_transform(
        data, linear, offset, output_shape=shape, output=np.float32, order=order, mode="grid-constant", cval=outside
    )


def _linear_weights(positions: np.ndarray, length: int) -> np.ndarray:
    """Weights (len(positions), length) of linear interpolation at fractional `positions`, 0 beyond the ends."""
    low = np.floor(positions).astype(int)
    share = positions - low
    weights = np.zeros((len(positions), length), dtype=np.float32)
    rows = np.arange(len(positions))
    for index, weight in ((low, 1 - share), (low + 1, share)):
        within = (index >= 0) & (index < length)
        weights[rows[within], index[within]] = weight[within]
    return weights


def _shifted(data: np.ndarray, start: np.ndarray, shape: tuple[int, int, int], outside: float) -> np.ndarray:
    """`data[start : start + shape]`, padded with `outside`."""
    result = np.full(shape, outside, dtype=np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + np.array(shape), data.shape)
    if (high > low).all():
        target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        result[target] = data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return result


def to_grid(volume: np.ndarray, affine: np.ndarray, grid: Grid, order: int = 1) -> np.ndarray:
    """An image (X, Y, Z) of any orientation on the working grid, float32, 0 outside, smoothed before it gets coarser."""
    return resample(volume, affine, grid.shape, grid.matrix, order=order)


def labels_to_grid(mask: np.ndarray, affine: np.ndarray, grid: Grid, classes: int) -> np.ndarray:
    """Class indices 0..`classes` (X, Y, Z) on the working grid as uint8: each class linearly, then the largest.

    Not smoothed first: small lesions would vanish. Ties go to the lower class, outside the volume is 0.
    """
    best = resample(mask == 0, affine, grid.shape, grid.matrix, outside=1.0, antialias=False)
    result = np.zeros(grid.shape, dtype=np.uint8)
    for index in range(1, classes + 1):
        share = resample(mask == index, affine, grid.shape, grid.matrix, antialias=False)
        larger = share > best
        result[larger] = index
        best[larger] = share[larger]
    return result


def from_grid(probabilities: np.ndarray, grid: Grid, own_shape: tuple[int, ...], own_affine: np.ndarray) -> np.ndarray:
    """Class probabilities (C, X, Y, Z) on the working grid brought to the scan's own grid: (C, *own_shape) float32.

    Linear; the classes sum to 1 in the input and so in the output. Beyond the grid class 0 (background) has
    probability 1. Smoothed first only where the scan's own voxels are coarser than the grid's.
    """
    shape = (int(own_shape[0]), int(own_shape[1]), int(own_shape[2]))
    result = np.empty((len(probabilities), *shape), dtype=np.float32)
    for index in range(1, len(probabilities)):
        result[index] = resample(probabilities[index], grid.matrix, shape, own_affine)
        np.clip(result[index], 0, 1, out=result[index])
    # Linear maps keep sums, so the background needs no resampling of its own.
    result[0] = 1.0
    for index in range(1, len(probabilities)):
        result[0] -= result[index]
    np.clip(result[0], 0, 1, out=result[0])
    return result


def to_uint8(volume: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Percentiles .5 to 99.5 of the brain's values onto 1..255; 0 outside the brain. Any shape, uint8."""
    result = np.zeros(volume.shape, dtype=np.uint8)
    inside = volume[brain]
    if inside.size == 0:
        return result
    low, high = np.percentile(inside, (0.5, 99.5))
    scaled = (inside - low) * (254.0 / max(float(high - low), 1e-6)) + 1.0
    result[brain] = np.clip(np.round(scaled), 1, 255).astype(np.uint8)
    return result


# -------------------------------------------------------------------------------------------------- slices


def to_slices(volume: np.ndarray) -> np.ndarray:
    """(X, Y, Z) RAS -> (Z, H, W): front at the top, the subject's right on the picture's left (radiological)."""
    return np.ascontiguousarray(volume.transpose(2, 1, 0)[:, ::-1, ::-1])


def from_slices(slices: np.ndarray) -> np.ndarray:
    """(Z, H, W) of `to_slices` -> (X, Y, Z) RAS."""
    return np.ascontiguousarray(slices[:, ::-1, ::-1].transpose(2, 1, 0))
