"""Where k-space has its zero frequency and images their origin, and which samples are rounding instead of zeros.

Programs differ: `numpy.fft.fft2` leaves the zero frequency in the corner, and takes the image's origin from there. The
energy of the samples shows it, but only the user can say it. NumPy only; no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_d3ip.io.layout.grid import Grid, inverse_fft
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import BoolArray, ComplexArray

_SPATIAL = "zyx"
# Part of the energy that lies within a sample of the strongest one, where that is the zero frequency; white samples
# have no such place, and there it is the part of the samples. Gradient delays and phases of the image move it by few.
_PEAK, _ABOVE_WHITE, _MOVED, _MOVED_PART = 0.2, 5.0, 2, 0.025
# Energy of an image's outer quarter in units of that of the inner quarter, where it is rolled by half its size.
_ROLLED, _SHORTEST = 3.0, 5
# Samples relative to the largest: rounding of single precision is below the first, and a gap of the second between
# them and the measured ones shows that these are not the tail of a distribution.
_ROUNDING, _GAP = 1e-6, 30.0
_FEWEST, _IN_GAP, _FILLER, _MANY = 0.02, 0.02, 1e-3, 8


@dataclass(frozen=True)
class Move:
    """What brings the zero frequency and the image's origin to the middle of a grid.

    Parameters
    ----------
    letters : str
        Encoded axes.
    shifts : dict
        By which part of its length to move k-space along some axes, from the end to the other end.
    from_corner : bool
        Whether the image's origin is in its corner.
    """

    letters: str
    shifts: dict[str, float]
    from_corner: bool

    def apply(self, grid: Grid) -> Grid:
        """Return a grid with both in the middle."""
        sizes = {letter: grid.mask.shape[_SPATIAL.index(letter)] for letter in self.letters}
        amounts = [round(part * sizes[letter]) for letter, part in self.shifts.items()]
        data = np.roll(grid.data, amounts, axis=["zcyx".index(letter) for letter in self.shifts])
        for letter in self.letters if self.from_corner else "":
            # To roll an image is a phase ramp over its k-space.
            size = sizes[letter]
            ramp = np.exp(2j * np.pi * (np.arange(size) - size // 2) * (size // 2) / size).astype(np.complex64)
            data = data * ramp.reshape([-1 if axis == letter else 1 for axis in "zcyx"])
        mask = np.roll(grid.mask, amounts, axis=[_SPATIAL.index(letter) for letter in self.shifts])
        return Grid(np.asarray(data, dtype=np.complex64), mask)

    def notes(self) -> dict[str, str]:
        """Return what is moved, for provenance; empty where nothing is."""
        along = ", ".join(f"k{letter} by {part:.3g}" for letter, part in self.shifts.items())
        return {
            **({"dc": f"moved to the middle ({along} of the axis)"} if self.shifts else {}),
            **({"image_origin": "moved from the corner to the middle"} if self.from_corner else {}),
        }


def find_move(grid: Grid, options: ReadOptions, letters: str, name: str) -> Move:
    """Return how to bring the zero frequency and the image's origin to the middle.

    Parameters
    ----------
    grid : Grid
        K-space as in the file.
    options : ReadOptions
        ``dc`` and ``image_origin``, which are asked for where the energy speaks against the middle.
    letters : str
        Encoded axes, ``"yx"`` or ``"zyx"``.
    name : str
        Of the file, for messages.

    Raises
    ------
    LayoutQuestion
        If the strongest samples, or the object, lie elsewhere, and the options do not say why.
    """
    if not grid.data.any() or not np.isfinite(grid.data).all():
        return Move(letters, {}, False)  # `KSpace` refuses it.
    sizes = {letter: grid.mask.shape[_SPATIAL.index(letter)] for letter in letters}
    if options.dc is None:
        _require_centre(grid, sizes, name)
    shifts = {}
    if options.dc == "corner":
        shifts = {letter: size // 2 / size for letter, size in sizes.items()}
    elif isinstance(options.dc, tuple):
        given = dict(zip(letters[-len(options.dc) :], options.dc, strict=False))
        shifts = {letter: (sizes[letter] // 2 - at) / sizes[letter] for letter, at in given.items()}
    move = Move(letters, {letter: part for letter, part in shifts.items() if part}, options.image_origin == "corner")
    if options.image_origin is None:
        _require_middle(move.apply(grid), letters, name)
    return move


def _require_centre(grid: Grid, sizes: dict[str, int], name: str) -> None:
    """Ask where the strongest samples are not near the middle, though those of the middle were measured."""
    others = tuple(axis for axis, letter in enumerate("zcyx") if letter not in sizes)
    energy = (grid.data.real**2 + grid.data.imag**2).sum(axis=others, dtype=np.float64)
    near = energy
    for axis, size in enumerate(energy.shape):
        if size > 3:
            near = near + np.roll(near, 1, axis) + np.roll(near, -1, axis)
    peak = np.unravel_index(int(np.argmax(energy)), energy.shape)
    middle = tuple(size // 2 for size in energy.shape)
    share = max(_PEAK, _ABOVE_WHITE * 3**energy.ndim / energy.size)
    if near[peak] < share * energy.sum() or near[middle] > near[peak] / 2:
        return
    moved = [abs(int(at) - half) for at, half in zip(peak, middle, strict=True)]
    sampled = grid.mask.any(axis=tuple(axis for axis, letter in enumerate(_SPATIAL) if letter not in sizes))
    places = np.argwhere(sampled) - np.array(middle)
    gap = int(np.abs(places).max(axis=1).min())  # Without its middle, k-space is strongest beside that.
    far = [by > gap + max(_MOVED, _MOVED_PART * size) for by, size in zip(moved, energy.shape, strict=True)]
    if not any(far):
        return
    in_corner = [min(int(at), size - int(at)) <= 1 for at, size in zip(peak, energy.shape, strict=True)]
    place = ",".join(str(int(at) if is_far else half) for at, half, is_far in zip(peak, middle, far, strict=True))
    answer = "corner" if all(in_corner) else place
    axes = ", ".join(f"k{letter}" for letter in sizes)
    raise LayoutQuestion(
        f"dc: the strongest samples of {name} lie at ({axes}) = ({place.replace(',', ', ')}), not in the middle "
        f"({', '.join(map(str, middle))}), where the frequency should be zero; give dc={answer} if it is zero there"
        f"{', as numpy.fft.fft2 leaves it' if answer == 'corner' else ''}, or dc=center.",
        needs="dc",
        candidates=(answer, "center"),
        shape=grid.data.shape,
    )


def _require_middle(grid: Grid, letters: str, name: str) -> None:
    """Ask where the object lies around the corners of its images instead of their middle."""
    centre = grid.centre() if "z" not in letters else grid.data
    if centre is None:
        return
    outside = []
    for letter in letters:
        axis = "zcyx".index(letter)
        size = centre.shape[axis]
        if size < _SHORTEST:
            continue
        image = np.abs(inverse_fft(_all_but(centre, letters, letter), axis)) ** 2
        along = image.sum(axis=tuple(other for other in range(4) if other != axis), dtype=np.float64)
        part = size // 8 or 1
        inside = along[size // 2 - part : size // 2 + part].sum()
        outside.append(along[:part].sum() + along[-part:].sum() > _ROLLED * inside)
    if outside and all(outside):
        raise LayoutQuestion(
            f"image_origin: the object of {name} lies around the corners of its images, as where k-space is the "
            "transform of an image without numpy.fft.ifftshift before; give image_origin=corner to move it to the "
            "middle, or image_origin=center if it lies so.",
            needs="image_origin",
            candidates=("corner", "center"),
            shape=grid.data.shape,
        )


def _all_but(centre: ComplexArray, letters: str, kept: str) -> ComplexArray:
    """Transform the other encoded axes to the image, so that what varies along the one that is left is the object."""
    for letter in letters:
        if letter != kept:
            centre = inverse_fft(centre, "zcyx".index(letter))
    return centre


def sampled_in(data: ComplexArray, options: ReadOptions, name: str, *, is_known: bool) -> BoolArray:
    """Return where samples were measured, shape (r, z, y, x): where they are not zero, nor as small as rounding.

    Parameters
    ----------
    data : ndarray
        Shape (r, z, coil, y, x).
    options : ReadOptions
        ``zeros_below``, which is asked for where there seem to be such samples.
    name : str
        Of the file, for messages.
    is_known : bool
        Whether a mask says what was measured, so that nothing needs to be asked.

    Raises
    ------
    LayoutQuestion
        If the samples fall into measured ones and such that may be rounding.
    """
    size = np.abs(data).max(axis=2)
    largest = float(size.max())
    if largest == 0:  # `KSpace` refuses it.
        return np.ones(size.shape, bool)
    if options.zeros_below == 0 or not 0 < largest < math.inf:  # `KSpace` refuses what is not finite.
        return np.asarray((data != 0).any(axis=2))
    if options.zeros_below is not None:
        return np.asarray(size > options.zeros_below * largest)
    limit = _limit_of_rounding(size[size > 0] / largest)
    if limit is None:
        return np.asarray(size > 0)
    count = int(np.count_nonzero((size > 0) & (size <= limit * largest)))
    if not is_known:
        raise LayoutQuestion(
            f"zeros_below: {count} of {size.size} samples of {name} are at most {limit:.1g} of the largest, and none "
            "of the others nearly so small, as rounding or filler leaves where nothing was measured; give "
            f"zeros_below={limit:.1g} to take them as not measured, zeros_below=0 if all were, or mask=FILE.",
            needs="zeros_below",
            candidates=(f"{limit:.1g}", "0"),
            shape=data.shape,
            also=("mask",),
        )
    return np.asarray(size > limit * largest)


def _limit_of_rounding(sizes: npt.NDArray[np.float32]) -> float | None:
    """Return a limit between what may be rounding or filler and what was measured, relative to the largest sample."""
    logarithms = np.log10(sizes.astype(np.float64))
    for power in range(round(math.log10(_ROUNDING)), -17, -1):
        below = np.count_nonzero(logarithms <= power)
        if below < _FEWEST * len(sizes):
            break
        between = np.count_nonzero(logarithms <= power + math.log10(_GAP)) - below
        if between <= _IN_GAP * below:
            return float(10.0**power)
    values, counts = np.unique(sizes[sizes < _FILLER], return_counts=True)
    if len(counts) and counts.max() >= max(_FEWEST * len(sizes), _MANY):  # One and the same value is no noise.
        value = values[counts.argmax()]
        if np.count_nonzero(sizes < value) <= _IN_GAP * counts.max():
            return float(f"{1.5 * value:.1g}")
    return None
