"""The engine: a measurement and settings in, a volume with its history and provenance out.

All ways in (napari, command line, scripts) come through `iter_reconstruct`. Knows no Qt and no napari. The types
callers handle load without torch; the numerics are imported when a reconstruction starts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import D3IPError, MeasurementError, SettingsError
from napari_d3ip.measurement import ComplexArray, Measurement
from napari_d3ip.settings import Settings

if TYPE_CHECKING:
    from napari_d3ip.adaptation.saved import SavedAdapter

FloatArray = npt.NDArray[np.float32]
Part = Literal["magnitude", "phase", "complex"]
_Result = TypeVar("_Result")


class Cancelled(Exception):
    """Raised inside a reconstruction whose caller asked for it to stop."""


class Control:
    """The caller's hand on a running reconstruction, safe to use from another thread.

    The engine polls it in every inner iteration: `cancel` raises `Cancelled` there, `pause` holds it until `resume`.
    `keep` ends the run after the step under way, with the best volume so far.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._kept = threading.Event()
        self._running = threading.Event()
        self._running.set()

    def cancel(self) -> None:
        """Stop and discard."""
        self._cancelled.set()
        self._running.set()

    def keep(self) -> None:
        """Stop and keep what there is."""
        self._kept.set()
        self._running.set()

    def pause(self) -> None:
        """Hold at the next inner iteration, unless it is to stop anyway."""
        self._running.clear()
        if self._cancelled.is_set() or self._kept.is_set():
            self._running.set()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._running.set()

    @property
    def kept(self) -> bool:
        """Whether `keep` was called."""
        return self._kept.is_set()

    def check(self) -> None:
        """Wait while paused.

        Raises
        ------
        Cancelled
            If `cancel` was called.
        """
        self._running.wait()
        if self._cancelled.is_set():
            raise Cancelled


@dataclass(frozen=True)
class Step:
    """One step of a running reconstruction.

    Parameters
    ----------
    index, total : int
        Steps done, and in all; ``index`` runs from 1 to ``total``.
    phase : str
        What was done: ``"first reconstruction"``, ``"adaptation"``, ``"refinement"``, ``"sampling"``,
        ``"iteration"``.
    loss, held_out_loss : float or None
        Mean squared residual on the rays used, and on held-out rays, in units of the noise variance; in an
        adaptation step the loss itself, and that of the adapted network.
    held_out_loss_without : float or None
        In an adaptation step, the loss on held-out rays of the bare prior.
    lora_shift : float or None
        Relative size of the adapters' change of the weights.
    eta_seconds : float or None
        Estimated seconds to the end.
    preview : ndarray or None
        Current volume (z, y, x), float32, in the measurement's units.
    """

    index: int
    total: int
    phase: str
    loss: float | None = None
    held_out_loss: float | None = None
    held_out_loss_without: float | None = None
    lora_shift: float | None = None
    eta_seconds: float | None = None
    preview: FloatArray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructed volume and how it came to be.

    Parameters
    ----------
    volume : ndarray
        Shape (z, y, x), float32, in the measurement's units per pixel; the magnitude in MRI.
    settings : Settings
        As used, with everything chosen from the scan filled in.
    history : list of dict
        One entry a step: phase, t, loss, held_out_loss, held_out_loss_without, lora_shift, accepted,
        seconds (of this step).
    metrics : dict
        method, shape, seconds, adapt_seconds, sample_seconds, peak_memory_bytes, device, seed, noise_level, residual,
        held_out_residual, lora_shift, adaptations, adaptations_accepted, psnr, ssim, stopped_early, regulariser,
        versions; and what the run says of itself: verdict (a sentence), returned (the method whose volume this is:
        that of the start where validation data show that the method made it worse), gain and gain_deviation (relative
        change of the squared residual on validation data against the start, negative is better, and its standard
        error; None where nothing was compared), misfit (None, or a sentence where the volume does not explain the
        scan).
    measurement : Measurement
        The scan.
    phase : ndarray or None
        Phase of an MR image in radians, shape (z, y, x), float32.
    coil_maps : ndarray or None
        Coil sensitivities in use, shape (z, coil, y, x), complex64.
    adapter : SavedAdapter or None
        Adapters of the volume, for a scan of the same kind to start from (``settings.adapter``); None for methods
        without, and where held-out rays spoke against them.
    """

    volume: FloatArray
    settings: Settings
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    measurement: Measurement = field(repr=False)
    phase: FloatArray | None = field(default=None, repr=False)
    coil_maps: ComplexArray | None = field(default=None, repr=False)
    adapter: SavedAdapter | None = field(default=None, repr=False)

    def summary(self) -> dict[str, Any]:
        """The ``--json`` object of the command line: metrics with the settings, JSON values only."""
        return {**self.metrics, "settings": self.settings.model_dump(mode="json")}

    def image(self, part: Part = "magnitude") -> FloatArray | ComplexArray:
        """The volume, or of an MR image the phase in radians, or both as a complex volume.

        Parameters
        ----------
        part : {"magnitude", "phase", "complex"}
            The magnitude is ``volume``, whatever was measured.

        Returns
        -------
        ndarray
            Shape (z, y, x), float32 or complex64.

        Raises
        ------
        D3IPError
            If there is no such part, or the volume has no phase.
        """
        if part not in get_args(Part):
            raise D3IPError(f"part: '{part}' is not known; use {', '.join(get_args(Part))}.")
        if part == "magnitude":
            return self.volume
        if self.phase is None:
            raise D3IPError(f"part: a volume of {self.measurement.source} has no {part}; only MR images have.")
        if part == "phase":
            return self.phase
        image: ComplexArray = (self.volume * np.exp(1j * self.phase)).astype(np.complex64)
        return image

    def save(self, path: str | Path, part: Part = "magnitude") -> None:
        """Write the volume; the format follows the ending (.tif .zarr .npy .h5 .nii.gz).

        The file keeps voxel size, position, settings, metrics, history, and where the scan is; napari opens it as a
        result again.

        Parameters
        ----------
        path : str or Path
            File to write. TIFF gets a complex volume as two files, see `napari_d3ip.save_volume`.
        part : {"magnitude", "phase", "complex"}
            What of it to write, see `image`.

        Raises
        ------
        FileError
            If the ending is unknown or the file cannot be written; no partial file is left.
        D3IPError
            If there is no such part.
        """
        from napari_d3ip.io import save_volume
        from napari_d3ip.io.position import Belongings, Position
        from napari_d3ip.io.results import scan_note

        save_volume(
            path,
            self.image(part),
            voxel_size=self.measurement.voxel_size,
            unit=self.measurement.unit,
            metadata={**self.summary(), "history": self.history, "source": self.measurement.source, "part": part},
            belongings=Belongings(self.name, Position.of(self.measurement), scan_note(self.measurement)),
        )

    @property
    def name(self) -> str:
        """Name of its layer: the scan, the method, and the slices if they are not all.

        Where the volume is that of the method's start, as validation data spoke against the run, both are named:
        ``scan [d3ip → tv]``.
        """
        part = self.measurement.slice_range
        some = "" if part is None else f" slices {part[0]}–{part[1] - 1}"
        method, returned = self.settings.method, self.metrics.get("returned")
        methods = method if returned in (None, method) else f"{method} → {returned}"
        return f"{self.measurement.source} [{methods}]{some}"

    def save_adapter(self, folder: str | Path) -> None:
        """Write the adapters as a PEFT folder; ``settings.adapter`` starts another scan from it.

        Raises
        ------
        D3IPError
            If there are none to keep, or the folder cannot be written.
        """
        if self.adapter is None:
            raise D3IPError(
                "adapter: this run has none to save; only d3ip, d3ip-mbir and d3ip-meta with one adapt_groups and "
                "without adapt_biases make some, unless held-out rays spoke against them."
            )
        self.adapter.save(folder)

    def residual(self, control: Control | None = None) -> FloatArray | ComplexArray:
        """What the volume fails to explain of the scan: (A x - y) in units of the noise level.

        Of a perfect volume only noise is left, of standard deviation 1 (root mean square 1 if complex); structure is
        what the method smoothed away or invented, and whole views or lines that stand out are flawed.

        Parameters
        ----------
        control : Control, optional
            Cancel from another thread.

        Returns
        -------
        ndarray
            Of a sinogram: (z, angle, detector), float32, all rays. Of k-space: (z, coil, ky, kx) or (z, coil, readout,
            sample), complex64, of the coils in use (at most ``settings.virtual_coils``), 0 where nothing was measured.

        Raises
        ------
        MeasurementError
            If the volume was cropped or resampled, or the phase of an MR image is missing.
        D3IPError
            If the settings do not fit this machine.
        Cancelled
            If ``control.cancel()`` was called.
        """
        scan: Any = self.measurement
        if not isinstance(scan, Measurement):
            raise MeasurementError(getattr(scan, "reason", f"scan: {type(scan).__name__} is no measurement."))
        from napari_d3ip.reconstruction.engine import residual  # Loads torch.

        return residual(self, control or Control())

    def to_layer(self) -> tuple[FloatArray, dict[str, Any], str]:
        """Napari layer data tuple: the volume, its place, scale, units and provenance."""
        from napari_d3ip.io.position import Position
        from napari_d3ip.io.units import units_in_napari
        from napari_d3ip.measurement.digest import array_digest

        attributes: dict[str, Any] = {
            "name": self.name,
            "metadata": {
                "napari_d3ip": {
                    "measurement": self.measurement,
                    "settings": self.settings.model_dump(mode="json"),
                    "metrics": self.metrics,
                    "history": self.history,
                    "phase": self.phase,
                    "adapter": self.adapter,
                    "content": array_digest(self.volume),
                }
            },
        }
        if self.measurement.voxel_size is not None:
            attributes |= {"scale": self.measurement.voxel_size, "units": units_in_napari(self.measurement.unit)}
        position = Position.of(self.measurement)
        if position != Position():
            attributes |= position.in_napari()
        return self.volume, attributes, "image"


@dataclass(frozen=True)
class Uncertainty:
    """How much a volume depends on the random numbers of its sampler.

    This is the spread of the sampler alone. What all samples have in common is not in it: what the measurement
    leaves open and the prior fills in the same way every time, a prior that does not suit the object, errors of the
    geometry. The whole error can be much larger, and a small spread is no proof of a structure.

    Parameters
    ----------
    mean : ndarray
        Of the samples; shape (z, y, x), float32, in the units of a reconstruction.
    deviation : ndarray
        Standard deviation of the samples in every voxel, of the magnitude in MRI; as ``mean``. Zero for methods
        without random numbers.
    seeds : tuple of int
        Of the samples.
    settings : Settings
        As used, but for the seed, with everything chosen from the scan filled in.
    metrics, history
        Those of the first sample, as in `Reconstruction`.
    measurement : Sinogram, KSpace, ImageStack or LinearMeasurement
        The scan.
    """

    mean: FloatArray
    deviation: FloatArray
    seeds: tuple[int, ...]
    settings: Settings
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    measurement: Measurement = field(repr=False)


def iter_reconstruct(
    measurement: Measurement,
    settings: Settings | None = None,
    *,
    reference: FloatArray | None = None,
    control: Control | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    regulariser: Any = None,
) -> Generator[Step, None, Reconstruction]:
    """Reconstruct step by step.

    Parameters
    ----------
    measurement : Sinogram, KSpace, ImageStack or LinearMeasurement
        The scan.
    settings : Settings, optional
        Default: ``Settings()``.
    reference : ndarray, optional
        Shape (z, y, x); only scored against (PSNR, SSIM), never used by the solver.
    control : Control, optional
        Cancel, pause or stop early from another thread.
    checkpoint : str or Path, optional
        File that keeps the state of sampling after every step; the caller removes it once the volume is safe.
    resume : bool
        Continue from ``checkpoint`` if it is there.
    regulariser : object, optional
        Takes the part of total variation, in `tv` and in data consistency, with the weights of that (``tv_weight``): a
        sigpy ``Prox`` (of the shape of a slice, or of a volume with -1 for z), a deepinv ``Prior``, or a denoiser as
        deepinv's, called with images (z, 1, y, x) of intensities of about 0 to 1 and the standard deviation 0.05.
        A checkpoint does not keep it: resume with the same one.

    Yields
    ------
    Step
        After each step.

    Returns
    -------
    Reconstruction
        As the generator's return value; `reconstruct` gives it directly.

    Raises
    ------
    D3IPError
        If the settings do not fit the scan or this machine.
    Cancelled
        If ``control.cancel()`` was called.
    """
    if not isinstance(measurement, Measurement):
        raise MeasurementError(
            f"scan: {type(measurement).__name__} is no measurement; give what napari_d3ip.read returns."
        )
    given: Any = settings
    if not isinstance(given, Settings | None):
        raise SettingsError(f"settings: {type(given).__name__} is none; give Settings, or its fields by name.")

    from napari_d3ip.reconstruction.engine import run  # Loads torch.

    return (
        yield from run(
            measurement,
            settings or Settings(),
            reference,
            control or Control(),
            checkpoint,
            resume,
            regulariser=regulariser,
        )
    )


def reconstruct(
    measurement: Measurement,
    settings: Settings | None = None,
    *,
    reference: FloatArray | None = None,
    control: Control | None = None,
    on_step: Callable[[Step], None] | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    regulariser: Any = None,
    **fields: Any,
) -> Reconstruction:
    """Reconstruct a volume; any field of `Settings` may be given as a keyword.

    See `iter_reconstruct` for the other parameters.

    Parameters
    ----------
    on_step : callable, optional
        Called with each `Step`.

    Returns
    -------
    Reconstruction
        Volume, settings, history and metrics.

    Raises
    ------
    SettingsError
        If a setting is unknown or out of range.
    D3IPError
        If the settings do not fit the scan or this machine.
    Cancelled
        If ``control.cancel()`` was called.
    """
    if settings is None:
        settings = Settings.create(fields)
    elif fields:
        settings = settings.updated(**fields)
    steps = iter_reconstruct(
        measurement,
        settings,
        reference=reference,
        control=control,
        checkpoint=checkpoint,
        resume=resume,
        regulariser=regulariser,
    )
    return _driven(steps, on_step)


def iter_uncertainty(
    measurement: Measurement,
    settings: Settings | None = None,
    *,
    seeds: int = 4,
    control: Control | None = None,
) -> Generator[Step, None, Uncertainty]:
    """Reconstruct with several seeds of the sampler, step by step; see `Uncertainty` for what that tells.

    Everything else is the same in all samples: the rays or samples held out, coil maps, and weights chosen from the
    scan. The first sample is the reconstruction with ``settings``.

    Parameters
    ----------
    measurement : Sinogram, KSpace, ImageStack or LinearMeasurement
        The scan.
    settings : Settings, optional
        Default: ``Settings()``.
    seeds : int
        Number of samples, at least 2; their seeds are ``settings.seed`` and the numbers after it. Methods without
        random numbers run once.
    control : Control, optional
        Cancel, pause or stop early from another thread; an early stop keeps the samples that are complete.

    Yields
    ------
    Step
        After each step, counted over all samples; the phase names the sample, there is no preview.

    Returns
    -------
    Uncertainty
        As the generator's return value; `uncertainty` gives it directly.

    Raises
    ------
    D3IPError
        If the settings do not fit the scan or this machine, or ``seeds`` is below 2.
    Cancelled
        If ``control.cancel()`` was called, or ``control.keep()`` with less than two samples complete.
    """
    from napari_d3ip.reconstruction.uncertainty import sample_repeatedly  # Loads torch.

    return (yield from sample_repeatedly(measurement, settings or Settings(), seeds, control or Control()))


def uncertainty(
    measurement: Measurement,
    settings: Settings | None = None,
    *,
    seeds: int = 4,
    control: Control | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Uncertainty:
    """Reconstruct with several seeds of the sampler; see `iter_uncertainty` for the parameters.

    Parameters
    ----------
    on_step : callable, optional
        Called with each `Step`.

    Returns
    -------
    Uncertainty
        Mean and standard deviation of the samples.

    Raises
    ------
    D3IPError
        If the settings do not fit the scan or this machine, or ``seeds`` is below 2.
    Cancelled
        If ``control.cancel()`` was called, or ``control.keep()`` with less than two samples complete.
    """
    return _driven(iter_uncertainty(measurement, settings, seeds=seeds, control=control), on_step)


def _driven(steps: Generator[Step, None, _Result], on_step: Callable[[Step], None] | None) -> _Result:
    """Result of a run to its end."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result
        if on_step is not None:
            on_step(step)
