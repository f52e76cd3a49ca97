"""What may be wrong with the geometry of a scan: rotation axis, angles, axes of the array, width of a slice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from napari_d3ip.alignment.excerpt import is_cut
from napari_d3ip.alignment.rotation_axis import find_axis
from napari_d3ip.checking.candidate import GAIN, Candidate, how_read
from napari_d3ip.checking.views import few_slices
from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Check
from napari_d3ip.preparation.noise import estimate_noise

Array = npt.NDArray[np.float64]

# Degrees of the half circle below which an axis found by views left out is not to be trusted.
_MOST_DIRECTIONS = 150.0
# Change of the axis in pixels that is worth a word, and in its deviations; gain that it must have.
_PIXELS, _DEVIATIONS, _GAIN_OF_AXIS, _CERTAIN_OF_AXIS = 0.25, 2.0, 0.1, 1.0
# Fewer directions are easier to predict, whatever the scan, and of a half turn no less is taken; so are columns of
# another kind.
_GAIN_OF_NARROWER, _GAIN_OF_AXES = 0.9, 0.6
# Of another order, or range by a step, which may differ for one view only, whose gain has no standard error.
_GAIN_OF_ORDER = 0.5
# A wider slice predicts views no better, but the ends of the detector show that it is needed.
_GAIN_OF_WIDER = -0.3
# Widths of the detector that a slice is wider than, if it has room for such an object, and that it gets.
_WIDER, _WIDEST = 1.2, 1.6
# Spread of the ends, from their 5th to their 95th percentile, in deviations of noise, whose own is 3.3.
_BEYOND_NOISE = 6.0
_HALF_TURN = 181.0
# Range of angles in degrees below which they could be radians, and above which they could have been converted twice.
_RADIANS, _TWICE = 30.0, 1000.0
# Fewest slices and columns of which either could be the other.
_FEWEST = 8


@dataclass(frozen=True)
class RotationAxis:
    """The rotation axis is elsewhere."""

    name: ClassVar[str] = "center"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan about the axis that is found."""
        if scan.angular_range < _MOST_DIRECTIONS:
            return
        axis = find_axis(scan, poll)
        change = abs(axis.center - scan.axis)
        if change > _PIXELS and not change < _DEVIATIONS * axis.deviation:
            why = f"the rotation axis is at {axis.center:.2f}, not at {scan.axis:.2f}, by {axis.method}"
            moved = replace(scan, center=axis.center)
            options = {"center": f"{axis.center:.2f}"}
            yield Candidate(options, why, moved, least=_GAIN_OF_AXIS, certain=_CERTAIN_OF_AXIS)


@dataclass(frozen=True)
class Angles:
    """Angles are of another range, in another unit, in another order, or of another sense."""

    name: ClassVar[str] = "angles"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with other angles."""
        if "views_left_out" in how_read(scan, "values"):
            return  # The file has more angles than the scan has views.
        angles, extent = scan.angles, float(np.ptp(scan.angles))
        for other, why, least in _other_ranges(angles):
            yield Candidate({"angles": angles_text(other)}, why, replace(scan, angles=other), least=least)
        for other, why in _other_orders(angles):
            if not np.allclose(other, angles):
                options, turned = {"angles": angles_text(other)}, replace(scan, angles=other)
                yield Candidate(options, why, turned, least=_GAIN_OF_ORDER, certain=0.0)
        if extent < _RADIANS:
            yield _in_other_unit(scan, np.rad2deg(angles), "radian")
        if extent > _TWICE:
            yield _in_other_unit(scan, np.deg2rad(angles), "degree")


def _in_other_unit(scan: Sinogram, angles: Array, unit: str) -> Candidate:
    return Candidate({"angle_unit": unit}, f"the angles of the file are in {unit}s", replace(scan, angles=angles))


def _other_ranges(angles: Array) -> Iterator[tuple[Array, str, float]]:
    steps, count, first = np.diff(angles), len(angles), angles[0]
    if count < 2 or not np.allclose(steps, steps.mean(), atol=1e-3 * abs(steps.mean())):
        return
    halved = ((0.5, "the views cover half the range of angles"),) if np.ptp(angles) > _HALF_TURN else ()
    for factor, why in (
        (2.0, "the views cover twice the range of angles"),
        *halved,
        (count / (count - 1), "the last view is one step before the end of the range of angles"),
        ((count - 1) / count, "the last view is at the end of the range of angles"),
    ):
        least = _GAIN_OF_NARROWER if factor == 0.5 else GAIN if factor == 2 else _GAIN_OF_ORDER
        yield first + factor * (angles - first), why, least


def _other_orders(angles: Array) -> Iterator[tuple[Array, str]]:
    numbers = np.arange(len(angles))
    yield angles[::-1], "the angles are in reverse order"
    yield np.roll(angles, 1), "the first view has the last angle, and the others come one place later"
    yield np.roll(angles, -1), "the last view has the first angle, and the others come one place earlier"
    yield np.sort(angles), "the views are in the order of their angles"
    as_text = np.array(sorted(numbers.tolist(), key=str))
    yield angles[as_text], "the views are in the order of their numbers as text (1, 10, 100, 2)"
    for step in (2, 3, 4, 5, 8):
        interlaced = np.concatenate([numbers[start::step] for start in range(step)])
        yield angles[interlaced], f"the views are interlaced in {step} passes"


def angles_text(angles: Array) -> str:
    """Return angles as an option: first..last where they are evenly spaced."""
    if np.allclose(angles, np.linspace(angles[0], angles[-1], len(angles)), atol=1e-5):
        return f"{angles[0]:.10g}..{angles[-1]:.10g}"
    return ",".join(f"{angle:.10g}" for angle in angles)


@dataclass(frozen=True)
class Axes:
    """Slices and detector columns are exchanged."""

    name: ClassVar[str] = "axes"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with its detector turned."""
        order = how_read(whole, "axes").get("order")
        slices, _, detectors = whole.data.shape
        if order is None or whole.slice_range is not None or min(slices, detectors) < _FEWEST or whole.couples_slices:
            return
        turned = replace(
            whole, data=whole.data.transpose(2, 1, 0), mask=None, center=None, slice_shape=None, voxel_size=None
        )
        options = {"axes": str(order).translate(str.maketrans("zd", "dz"))}
        why = "the rotation axis runs along the other axis of the images"
        some = few_slices(turned)
        yield Candidate(options, why, some, is_paired=False, least=_GAIN_OF_AXES)


@dataclass(frozen=True)
class Truncation:
    """The object is wider than the detector."""

    name: ClassVar[str] = "slice_shape"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan of slices wider than the detector."""
        seen = scan.data.shape[2] * scan.detector_pitch
        if is_cut(scan) and _ends_change(scan) and scan.volume_shape[2] < _WIDER * seen:
            size = int(_WIDEST * seen)
            why = "both ends of the detector see the object, which is wider"
            wider = replace(scan, slice_shape=(size, size))
            yield Candidate({"slice_shape": f"{size},{size}"}, why, wider, least=_GAIN_OF_WIDER)


def _ends_change(scan: Sinogram) -> bool:
    """Return whether both ends of the detector change from view to view by more than noise."""
    margin = max(1, scan.data.shape[2] // 32)
    noise = estimate_noise(scan.data) / np.sqrt(margin)
    ends = np.stack([scan.data[..., :margin].mean(axis=2), scan.data[..., -margin:].mean(axis=2)])
    low, high = np.quantile(ends, [0.05, 0.95], axis=2)
    return bool((np.median(high - low, axis=1) > _BEYOND_NOISE * noise).all())
