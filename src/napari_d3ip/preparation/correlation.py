"""Estimate which neighbouring detector pixels, views and slices share noise, from the scan alone.

Scintillators, binning and interpolation blur noise. Methods that take rays to be independent then trust low
frequencies too much and high ones too little, and rays that are held out are known from their neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Windows of a quarter of the detector, of at least so many pixels; frequencies of the result.
_SHORTEST, _FREQUENCIES = 16, 17
# A scan has enough such windows, and no more than so many values, of so many slices, are looked at.
_FEWEST_WINDOWS, _ENOUGH, _SLICES = 200, 4_000_000, 16
# Orders of differences between slices and between views.
_SLICE_ORDERS, _VIEW_ORDERS = (0, 1, 3, 7), (3, 5, 7)
# Views of the half circle below which differences between them do not remove the object even at low frequencies.
_FEWEST_VIEWS = 24
# Pixels that must share their noise, see `Blur.length`, for it to be whitened: 1 if it is white, 2.5 if a Gaussian
# of 0.7 pixels has blurred it, where whitening costs more than it gains, and 5.3 of 1.5; largest gain of the filter,
# which amplifies errors of the description by pixels, too. Record: docs/research/correlated-noise.md.
_LONG, _LARGEST_GAIN = 3.5, 2.0
# Of the correlation of slices or views that is ignored; ratio of differences of views of the highest and the lowest
# order, 1 if they are independent, below which they are not; slices that tell noise they share from that of the beam.
_SHARED, _ALIKE, _FEWEST_SLICES = 0.2, 0.75, 8
# Of the power that differences of the second highest order between slices leave, that those of the highest leave, too,
# if it is noise: at least 0.93 there, at most 0.84 of structure that would be taken for noise of views.
_SETTLED = 0.88
# Of the power that differences of the lowest order between views leave, that those of the highest leave, too, if it is
# noise: at least 0.33 there, at most 0.18 of structure.
_NOISE = 0.25
_OBJECT = 0.05
# Medians of the power of real and complex noise of unit power.
_MEDIAN_OF_REAL, _MEDIAN_OF_COMPLEX = 0.4549, math.log(2)


@dataclass(frozen=True)
class Blur:
    """Blurred noise.

    Parameters
    ----------
    deviation : float
        Root mean square of the noise, in the sinogram's units.
    spectrum : ndarray
        Power of noise of unit variance at evenly spaced frequencies from 0 to the highest, falling.
    """

    deviation: float
    spectrum: Array

    @property
    def length(self) -> float:
        """Sum of the autocorrelation: so many pixels share their noise, 1 if it is white."""
        return float(self.spectrum[0])

    @property
    def whitening(self) -> npt.NDArray[np.float32]:
        """Return the symmetric kernel of odd length that makes the noise white and keeps its variance."""
        gain = 1 / np.sqrt(np.maximum(self.spectrum, self.spectrum[0] / _LARGEST_GAIN**2))
        kernel = np.fft.fftshift(np.fft.irfft(gain))[1:]
        # The limit of the gain does not make it quite white.
        power = _mean(gain**2 * self.spectrum)
        return (kernel / math.sqrt(power)).astype(np.float32)


@dataclass(frozen=True)
class NoiseCorrelation:
    """Noise that rays share with their neighbours.

    Parameters
    ----------
    detector : Blur or None
        Along the detector; None if few pixels share their noise, or if too little is known.
    slices, views : int
        Neighbours on either side that share noise; 0 if they are independent, or if too little is known.
    """

    detector: Blur | None = None
    slices: int = 0
    views: int = 0


def estimate_correlation(sinogram: npt.NDArray[np.float32], angles: npt.NDArray[np.float64]) -> NoiseCorrelation:
    """Estimate the correlation of noise along each axis of a sinogram.

    A point at the distance r from the axis, seen at the frequency f along the detector, passes at most 2 pi f r
    periods per radian of views (Edholm, Lewitt & Lindholm 1986). Differences of a high order between views therefore
    leave only noise of the lowest frequencies, and there it is known, whatever the object. At other frequencies
    structure adds to it, least so in differences of some order between slices, which are alike, and at the highest
    frequencies, where objects have little power. So the spectrum is at most the least of all orders, each relative to
    its own lowest frequency, since slices may share noise, too; and it falls with frequency, as that of every blur.

    Parameters
    ----------
    sinogram : ndarray
        Shape (z, angle, detector).
    angles : ndarray
        Shape (angle,), degrees; neighbours are those with neighbouring angles.
    """
    length = 2 * (sinogram.shape[2] // 8)
    if length < _SHORTEST or _views_of_half_a_circle(angles) < _FEWEST_VIEWS:
        return NoiseCorrelation()
    data = _part(sinogram[:, np.argsort(angles, kind="stable")])
    spectra = _spectra(data, length)
    if not spectra:
        return NoiseCorrelation()
    sigma = _blur_of_views(spectra)
    level = float(spectra[0][-1, 0]) / _left_of_blurred(_VIEW_ORDERS[-1], sigma)
    views = _reach(sigma)
    # Differences between views leave no noise of which views share much.
    along_z = not views and spectra[0][-1, 0] > _NOISE * spectra[0][0, 0]
    return NoiseCorrelation(_blur(spectra, level), _shared_slices(data, length) if along_z else 0, views)


def _blur(spectra: list[Array], level: float) -> Blur | None:
    """Return the blur along the detector, given the power at the lowest frequency; None if it is little."""
    shape = np.min([each / strongest[-1, 0] for strongest in spectra for each in strongest], axis=0)
    shape[0] = 1
    falling = np.minimum.accumulate(shape)
    variance = _mean(falling)
    if not _LONG * variance < 1:
        return None
    at = np.linspace(0, len(shape) - 1, _FREQUENCIES)
    return Blur(math.sqrt(level * variance), np.interp(at, np.arange(len(shape)), falling / variance))


def _shared_slices(data: Array, length: int) -> int:
    """Return how many neighbours on either side share a slice's noise of low frequency, but for what all share."""
    slices = len(data)
    if slices < _FEWEST_SLICES:
        return 0
    taper, inside = _taper(length), _inside(data, length)[:, _VIEW_ORDERS[-1] :]
    low = _windows(_differences(data, _VIEW_ORDERS[-1], 1), length) @ taper

    def correlation(lag: int) -> float:
        first, second = (each[inside[lag:]] for each in (low[lag:], low[: slices - lag]))
        alike, unlike = (float(np.median(each**2)) for each in (first + second, first - second))
        return (alike - unlike) / (alike + unlike) if alike + unlike > 0 else 0.0

    correlations = [correlation(lag) for lag in range(1, slices - 2)]
    # The intensity of the beam is the same for all slices.
    common = float(np.median(correlations[slices // 2 - 1 :]))
    reach = 0
    while reach < slices // 2 and correlations[reach] - common > _SHARED * (1 - common):
        reach += 1
    return reach


def _blur_of_views(spectra: list[Array]) -> float:
    """Return the deviation, in views, of a Gaussian that blurs noise along them; 0 if it does not seem blurred."""
    if len(spectra) < 3:  # Objects that change along z may look like it.
        return 0.0
    low, high = _VIEW_ORDERS[0], _VIEW_ORDERS[-1]
    if not spectra[-1][0, 0] > _SETTLED * spectra[-2][0, 0]:  # Structure is left, not only noise.
        return 0.0
    found = max(float(each[-1, 0] / each[0, 0]) for each in spectra[1:])
    if found > _ALIKE:
        return 0.0
    sigmas = np.arange(0.3, 3.0, 0.05)
    ratios = [_left_of_blurred(high, sigma) / _left_of_blurred(low, sigma) for sigma in sigmas]
    return float(sigmas[int(np.argmin(np.abs(np.log(ratios) - math.log(max(found, 1e-6)))))])


def _left_of_blurred(order: int, sigma: float) -> float:
    """Return the variance that differences leave of noise of unit variance that is blurred by a Gaussian."""
    frequency = np.linspace(0, np.pi, 501)
    spectrum = np.exp(-((sigma * frequency) ** 2))
    kept = (2 * np.sin(frequency / 2)) ** (2 * order) / math.comb(2 * order, order)
    return float((kept * spectrum).sum() / spectrum.sum())


def _reach(sigma: float) -> int:
    """Return the lag up to which noise blurred by a Gaussian is correlated."""
    return math.floor(2 * sigma * math.sqrt(-math.log(_SHARED)))


def _mean(half: Array) -> float:
    """Return the mean of a spectrum of which half is given, from frequency 0 to the highest."""
    return float((half[0] + 2 * half[1:-1].sum() + half[-1]) / (2 * len(half) - 2))


def _views_of_half_a_circle(angles: npt.NDArray[np.float64]) -> float:
    """Return how many views at the median angle between neighbours the half circle has."""
    steps = np.diff(np.unique(np.mod(angles, 360.0).round(6)))
    return 180.0 / float(np.median(steps)) if len(steps) else 0.0


def _part(sinogram: npt.NDArray[np.float32]) -> Array:
    """Return neighbouring slices and views of the middle with enough values."""
    slices, views, detectors = sinogram.shape
    few = min(slices, _SLICES)
    some = min(views, max(32, _ENOUGH // (few * detectors)))
    first, start = (slices - few) // 2, (views - some) // 2
    return sinogram[first : first + few, start : start + some].astype(np.float64)


def _spectra(data: Array, length: int) -> list[Array]:
    """Return power spectra along the detector: for each order between slices, those of all orders between views."""
    taper, inside = _taper(length), _inside(data, length)
    medians = np.full(length // 2 + 1, _MEDIAN_OF_COMPLEX)
    medians[[0, -1]] = _MEDIAN_OF_REAL
    found = []
    for slices in _SLICE_ORDERS:
        through = inside[: max(0, len(data) - slices), : max(0, data.shape[1] - _VIEW_ORDERS[-1])]
        if through.sum() < _FEWEST_WINDOWS:
            break
        detail = _differences(data, slices, 0)
        spectra = []
        for views in _VIEW_ORDERS:
            windows = _windows(_differences(detail, views, 1), length)[:, : through.shape[1]][through]
            power = np.abs(np.fft.rfft(windows * taper, axis=-1)) ** 2
            spectra.append(np.median(power, axis=0) / medians)
        if not spectra[-1][0] > 0:  # Nothing but zeros is left.
            break
        found.append(np.array(spectra))
    return found


def _taper(length: int) -> Array:
    taper = np.hanning(length + 2)[1:-1]
    return taper / np.linalg.norm(taper)


def _inside(data: Array, length: int) -> npt.NDArray[np.bool_]:
    """Return which windows (z, angle, window) see the object."""
    brightness = _windows(data, length).mean(axis=-1)
    inside: npt.NDArray[np.bool_] = brightness > _OBJECT * np.quantile(brightness, 0.999)
    return inside


def _windows(data: Array, length: int) -> Array:
    """Return overlapping windows (z, angle, window, length) along the detector."""
    windows: Array = np.lib.stride_tricks.sliding_window_view(data, length, axis=-1)[..., :: length // 4, :]
    return windows


def _differences(data: Array, order: int, axis: int) -> Array:
    """Return differences that keep the variance of white noise."""
    detail: Array = np.diff(data, n=order, axis=axis) / math.sqrt(math.comb(2 * order, order))
    return detail
