"""Convert detector counts to line integrals: dark and flat field correction, then the logarithm.

NumPy only. Nothing is clipped unless the caller requests it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import FloatArray

AnyArray = npt.NDArray[Any]
# Change of brightness, in units of the beam, that no beam makes between frames that belong together.
_OUTLIER = 0.3
# Standard errors of the beam's level that its change must exceed.
_CERTAIN = 7.0
# Parts of a projection that is blank, and of a detector that is dead; and how many are named.
_WHOLE, _FEW, _NAMED = 0.5, 0.1, 3


@dataclass(frozen=True)
class Frames:
    """Flat or dark frames.

    Parameters
    ----------
    values : ndarray
        Shape (frame, z, detector) or (z, detector).
    places : ndarray, optional
        Shape (frame,), number of projections before each frame; frames that belong together have the same.
    """

    values: AnyArray
    places: npt.NDArray[Any] | None = None

    @property
    def count(self) -> int:
        """Return the number of frames."""
        return 1 if self.values.ndim == 2 else len(self.values)


@dataclass(frozen=True)
class Transmission:
    """What reaches the detector, as a part of the beam.

    Parameters
    ----------
    values : ndarray
        Shape (z, angle, detector), float32; 1 for dead pixels.
    dead : ndarray of bool
        Shape (z, detector), pixels whose flats are not above the darks.
    notes : dict
        Frames that were left out, and how the beam changed, for provenance.
    """

    values: FloatArray
    dead: npt.NDArray[np.bool_]
    notes: dict[str, Any]


def transmission(
    counts: AnyArray, flats: Frames, darks: Frames | None = None, source: str = "the scan"
) -> Transmission:
    """Compute the transmission ``(counts - dark) / (flat - dark)``.

    Frames are averaged, but for those that are far brighter or darker than most (a closed shutter). Where it is known
    when the flats were taken, the level of the beam is interpolated between them.

    Parameters
    ----------
    counts : ndarray
        Detector counts, shape (z, angle, detector), any real type.
    flats : Frames
        Beam without sample.
    darks : Frames, optional
        No beam; default zero.
    source : str
        Name of the scan, for messages.

    Raises
    ------
    MeasurementError
        If flats or darks do not match the projections, or contradict each other.
    """
    size = (counts.shape[0], counts.shape[2])
    level = float(np.median(_checked(flats, size, "flats")))
    dark, notes = np.zeros(size), dict[str, Any]()
    if darks is not None:
        level -= float(np.median(_checked(darks, size, "darks")))
        kept, notes = _kept(darks, "darks", level, source)
        dark = darks.values.reshape(-1, *size)[kept].mean(axis=0, dtype=np.float64)
    kept, left_out = _kept(flats, "flats", level, source)
    notes |= left_out
    frames = flats.values.reshape(-1, *size)[kept]
    beam = frames.mean(axis=0, dtype=np.float64) - dark
    dead = np.asarray(~(beam > 0) & ~np.isnan(beam))
    if dead.mean() > _WHOLE:
        raise MeasurementError(
            f"flats: {int(dead.sum())} of {dead.size} pixels of {source} have flats that are no brighter than the "
            "darks; check flats and darks, and give others."
        )
    beam[dead] = 1
    change = np.ones((counts.shape[1], 1), np.float32)
    if flats.places is not None and (found := _drift(frames - dark, flats.places[kept], beam, dead)) is not None:
        places, levels = found
        notes["beam"] = f"between {levels.min():.3f} and {levels.max():.3f} of its mean, interpolated over the scan"
        change[:, 0] = np.interp(np.arange(counts.shape[1]) + 0.5, places, levels)
    gain, dark = (1 / beam).astype(np.float32), dark.astype(np.float32)
    result = np.empty(counts.shape, np.float32)
    for row in range(len(counts)):  # Row by row: no second float copy of a large scan.
        np.subtract(counts[row], dark[row], out=result[row], dtype=np.float32, casting="unsafe")
        result[row] *= gain[row] / change
        result[row][:, dead[row]] = 1
    return Transmission(result, dead, notes)


def minus_log(values: FloatArray, clip_transmission: float | None = None, source: str = "the scan") -> FloatArray:
    """Compute the line integrals of a transmission.

    Parameters
    ----------
    values : ndarray
        Transmission, shape (z, angle, detector), float32.
    clip_transmission : float, optional
        Values below this are raised to it first; default: values that are not positive are an error.
    source : str
        Name of the scan, for messages.

    Returns
    -------
    ndarray
        ``-log(values)``, float32, dimensionless; NaN stays NaN.

    Raises
    ------
    MeasurementError
        If values are not positive and ``clip_transmission`` is None; it says where they are.
    """
    if clip_transmission is not None:
        values = np.maximum(values, np.float32(clip_transmission))
    bad = values <= 0
    if bad.any():
        raise MeasurementError(
            f"data: {int(bad.sum())} of {values.size} transmission values in {source} are zero or negative and have "
            f"no logarithm{_where(bad)}."
        )
    logarithm = np.log(values)
    return np.negative(logarithm, out=logarithm)  # Of a large scan, a copy less.


def line_integrals(
    counts: AnyArray, flats: AnyArray, clip_transmission: float | None = None, source: str = "the scan"
) -> FloatArray:
    """Compute line integrals ``-log(counts / flat)`` where no pixel is dead; see `transmission` and `minus_log`."""
    share = transmission(counts, Frames(flats), source=source)
    share.values[np.broadcast_to(share.dead[:, None], counts.shape)] = 0
    return minus_log(share.values, clip_transmission, source)


def _where(bad: npt.NDArray[np.bool_]) -> str:
    """Say where values are bad, and what to do about it."""
    views, columns = (np.flatnonzero(bad.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    if (bad[:, views].mean(axis=(0, 2)) > _WHOLE).all():
        return f", all in {_names('projection', views)}; leave out what shows no sample: skip_views={_list(views)}"
    if len(columns) <= max(1, _FEW * bad.shape[2]):
        return f", all in {_names('detector column', columns)}; leave out dead pixels: bad_pixels={_list(columns)}"
    return ", all over the scan; check flats and darks, and give clip_transmission=1e-4 if nothing passes the sample"


def _names(name: str, numbers: npt.NDArray[np.intp]) -> str:
    few = ", ".join(map(str, numbers[:_NAMED]))
    return f"{name}{'s' if len(numbers) > 1 else ''} {few}{', …' if len(numbers) > _NAMED else ''} (counted from 0)"


def _list(numbers: npt.NDArray[np.intp]) -> str:
    """Return numbers as in options: ``3,7:10`` for 3, 7, 8 and 9."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}:{run[-1] + 1}" for run in runs[:_NAMED])


def _kept(frames: Frames, name: str, level: float, source: str) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
    """Return which frames are as bright as most of their place, or of all, and a note of the others.

    ``level`` is the beam's brightness.
    """
    values = frames.values if frames.values.ndim == 3 else frames.values[None]
    brightness = np.median(values.reshape(len(values), -1), axis=1).astype(np.float64)
    places = np.zeros(len(values), np.intp) if frames.places is None else frames.places
    usual = np.full(len(values), np.median(brightness))
    for place in np.unique(places):
        if int((places == place).sum()) > 2:
            usual[places == place] = np.median(brightness[places == place])
    kept = np.asarray(~(np.abs(brightness - usual) > _OUTLIER * abs(level)))
    if 2 * int(kept.sum()) <= len(kept):
        raise MeasurementError(
            f"{name}: the frames of {source} differ so much in brightness that none can be taken for the rule; give "
            f"{name}=FILE with good ones."
        )
    left_out = np.flatnonzero(~kept).tolist()
    note = {f"{name}_left_out": f"{left_out} of {len(kept)}, unlike the others in brightness"} if left_out else {}
    return kept, note


def _drift(
    frames: npt.NDArray[np.float64],
    places: npt.NDArray[Any],
    beam: npt.NDArray[np.float64],
    dead: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]] | None:
    """Return places and the beam's level there, relative to its mean; None where it changes by no more than noise.

    The level alone, not every pixel, is followed: single flats are noisy.
    """
    known = np.unique(places)
    if len(known) < 2 or dead.all():
        return None
    each = np.array([frames[places == place].mean(axis=0)[~dead] for place in known])
    total = beam[~dead]
    levels = each.mean(axis=1) / total.mean()
    errors = (each - levels[:, None] * total).std(axis=1) / total.mean() / np.sqrt(len(total))
    return (known, levels) if np.ptp(levels) > _CERTAIN * errors.max() else None


def _checked(frames: Frames, size: tuple[int, int], name: str) -> AnyArray:
    values = frames.values
    if values.shape[-2:] != size or values.ndim not in (2, 3) or values.size == 0:
        raise MeasurementError(
            f"{name}: shape {values.shape} does not fit projections of {size[0]} rows and {size[1]} columns; give "
            "frames of the same detector region."
        )
    return values
