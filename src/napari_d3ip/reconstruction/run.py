"""Entry points: reconstruct a measurement, or estimate the uncertainty of a volume."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.reconstruction.control import Control, Step
from napari_d3ip.reconstruction.result import Reconstruction, Uncertainty
from napari_d3ip.settings import Settings

_Result = TypeVar("_Result")


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

    from napari_d3ip.reconstruction.engine import Options, run  # Loads torch.

    requested = settings or Settings()
    options = Options(reference, checkpoint, resume, regulariser)
    result = yield from run(measurement, requested, control or Control(), options)
    return replace(result, requested=requested.model_dump(mode="json", exclude_unset=True))


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
    from napari_d3ip.reconstruction.seeds import sample_repeatedly  # Loads torch.

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
    """Run to the end and return the result."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result
        if on_step is not None:
            on_step(step)
