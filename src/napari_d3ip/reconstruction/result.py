"""Results: a volume with its history and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_d3ip.errors import D3IPError, MeasurementError
from napari_d3ip.measurement import ComplexArray, Measurement
from napari_d3ip.settings import Settings

if TYPE_CHECKING:
    from napari_d3ip.adaptation.saved import SavedAdapter
from napari_d3ip.measurement import FloatArray
from napari_d3ip.reconstruction.control import Control

Part = Literal["magnitude", "phase", "complex"]


def adaptation_end(metrics: Mapping[str, Any]) -> str | None:
    """Say that adaptation ended early, of the metrics of a result, possibly from a file of another version."""
    rounds = metrics.get("adaptations")
    if metrics.get("adaptation_ended") is not True or not isinstance(rounds, int):
        return None
    return f"adaptation ended after {rounds} round{'s' * (rounds != 1)}, the last of which gained under 1 %"


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
        ended, seconds (of this step).
    metrics : dict
        method, shape, seconds, adapt_seconds, sample_seconds, peak_memory_bytes, device, seed, noise_level, residual,
        held_out_residual, lora_shift, adaptations, adaptations_accepted, adaptation_ended (early, since validation
        splits saw hardly a gain), psnr, ssim, stopped_early, regulariser, versions; and what the run says of itself:
        verdict (a sentence), returned (the method whose volume this is: that of the start unless validation data say
        that the method is clearly better), gain and gain_deviation (relative change of the squared residual on
        validation data against the start, negative is better, and its standard error; None where nothing was
        compared), misfit (None, or a sentence where the volume does not explain the scan). In MRI the volume is at
        last fitted to the held-out samples, too; residuals, verdict, gain and misfit are those of the volume before.
    measurement : Measurement
        The scan.
    phase : ndarray or None
        Phase of an MR image in radians, shape (z, y, x), float32.
    coil_maps : ndarray or None
        Coil sensitivities in use, shape (z, coil, y, x), complex64.
    adapter : SavedAdapter or None
        Adapters of the volume, for a scan of the same kind to start from (``settings.adapter``); None for methods
        without, and where held-out rays spoke against them.
    requested : dict or None
        Fields of the settings that were given for the run, JSON values; what is not in it, or None, was chosen from
        the scan. None if it is not known.
    """

    volume: FloatArray
    settings: Settings
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    measurement: Measurement = field(repr=False)
    phase: FloatArray | None = field(default=None, repr=False)
    coil_maps: ComplexArray | None = field(default=None, repr=False)
    adapter: SavedAdapter | None = field(default=None, repr=False)
    requested: dict[str, Any] | None = field(default=None, repr=False)

    def summary(self) -> dict[str, Any]:
        """Return the ``--json`` object of the command line: metrics with the settings, JSON values only."""
        return {
            **self.metrics,
            "settings": self.settings.model_dump(mode="json"),
            **({} if self.requested is None else {"requested": self.requested}),
        }

    def image(self, part: Part = "magnitude") -> FloatArray | ComplexArray:
        """Return the volume, or of an MR image the phase in radians, or both as a complex volume.

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
        """Write the volume; the format follows the ending (.tif .zarr .npy .h5 .nii.gz .mrc).

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
            belongings=Belongings(
                self.name,
                Position.from_measurement(self.measurement),
                scan_note(self.measurement),
                patient=Position.in_patient(self.measurement),
            ),
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
                "adapter: this run has none to save; only d3ip, d3ip-mbir and d3ip-meta without adapt_biases make "
                "some, unless validation rejected every round."
            )
        self.adapter.save(folder)

    def residual(self, control: Control | None = None) -> FloatArray | ComplexArray:
        """Compute what the volume does not explain of the scan: (A x - y) in units of the noise level.

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
        from napari_d3ip.reconstruction.residual import residual

        check = (control or Control()).check
        return residual(self.volume, self.phase, self.measurement, self.settings, check)

    def to_layer(self) -> tuple[FloatArray, dict[str, Any], str]:
        """Return a napari layer data tuple: the volume, its place, scale, units and provenance."""
        from napari_d3ip.io.position import Position
        from napari_d3ip.io.units import units_in_napari
        from napari_d3ip.measurement.digest import array_digest

        attributes: dict[str, Any] = {
            "name": self.name,
            "metadata": {
                "napari_d3ip": {
                    "measurement": self.measurement,
                    "settings": self.settings.model_dump(mode="json"),
                    "requested": self.requested,
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
        position = Position.from_measurement(self.measurement)
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
