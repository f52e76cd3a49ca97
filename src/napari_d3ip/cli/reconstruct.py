"""Command `reconstruct`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_d3ip.cli.app import AsJson, Assignments
from napari_d3ip.cli.output import check_output, interruption, last_written, rehearse_writing, shape_text
from napari_d3ip.cli.parse import parse_assignments, split_options
from napari_d3ip.cli.progress import show_progress
from napari_d3ip.errors import SettingsError, printable
from napari_d3ip.reconstruction import Part
from napari_d3ip.settings import METHODS, Settings, names_where

if TYPE_CHECKING:
    from napari_d3ip.io import ReadOptions
    from napari_d3ip.measurement import FloatArray, Measurement
    from napari_d3ip.reconstruction import Reconstruction


@dataclass(frozen=True)
class Reconstruct:
    """Reconstruct the volume behind FILE."""

    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A sinogram or k-space file, or with --set kind=... a stack.")
    ]
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Volume to write: .tif .zarr .npy .h5 .nii.gz .mrc.")
    ]
    method: Annotated[str | None, typer.Option(help=f"{', '.join(METHODS)} (default: d3ip)")] = None
    prior: Annotated[str | None, typer.Option(help="Name of a prior, folder of a diffusers pipeline, or hub id.")] = (
        None
    )
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE.json", help="Settings; --set and options win over it.")
    ] = None
    assignments: Assignments = None
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="True volume: only to report PSNR and SSIM.")
    ] = None
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (default: auto)")] = None
    seed: Annotated[int | None, typer.Option(help="Seed of every random number (default: 0)")] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of the same command.")] = False
    part: Annotated[
        Part,
        typer.Option(help="What to write of an MR image; TIFF gets a complex one as OUT and OUT_phase."),
    ] = "magnitude"
    save_adapter: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the adapters, to start others from: --set adapter=FOLDER."),
    ] = None
    as_json: AsJson = False

    def run(self) -> None:
        """Reconstruct, write the volume, and print a sentence or the summary."""
        from napari_d3ip.io import load_volume, read
        from napari_d3ip.io.reader_process import end_all, in_own_process

        settings, options = self._settings()
        self._check_places(settings, options)
        measurement = in_own_process(read, self.file, options)
        end_all()
        rehearse_writing(self.out, self._writer(voxel_size=measurement.voxel_size, unit=measurement.unit))
        if self.part != "magnitude" and measurement.kind != "kspace":
            raise SettingsError(
                f"part: only MR images have a phase, not the volume of {self.file.name}; leave --part out."
            )
        truth = load_volume(self.reference).data if self.reference else None
        result = self._result(measurement, settings, truth)
        if self.save_adapter is not None and result.adapter is None:
            print(f"{self.save_adapter} is not written: validation accepted no round of adaptation.", file=sys.stderr)
        print(json.dumps(result.summary()) if self.as_json else _sentence(result, self.out))

    def _settings(self) -> tuple[Settings, ReadOptions]:
        """Return the settings, an option before --set and both before the file, and what the reader must be told."""
        given = {
            **(Settings.load(self.settings_file) if self.settings_file else {}),
            **parse_assignments(self.assignments),
        }
        explicit = {"method": self.method, "prior": self.prior, "device": self.device, "seed": self.seed}
        fields, options = split_options(given | {key: value for key, value in explicit.items() if value is not None})
        return Settings.create(fields), options

    def _check_places(self, settings: Settings, options: ReadOptions) -> None:
        """Check, before anything is read, that what is to be written can be, and replaces nothing that is read."""
        inputs = (self.file, self.settings_file, self.reference, *options.paths())
        check_output(self.out, self._writer(), *inputs)
        if self.save_adapter is not None:
            _check_adapter(self.save_adapter, settings)

    def _writer(self, **about: Any) -> Callable[[Path], None]:
        """Return a function that writes a volume of one voxel of the kind that OUT gets."""
        from napari_d3ip.io import save_volume

        written = [[[0j if self.part == "complex" else 0.0]]]
        return lambda path: save_volume(path, written, **about)

    def _result(self, measurement: Measurement, settings: Settings, truth: FloatArray | None) -> Reconstruction:
        """Reconstruct, and write volume and adapters; only then the checkpoint goes."""
        checkpoint = None
        if METHODS[settings.method].needs_prior:
            checkpoint = self.out.with_name(f"{self.out.name}.checkpoint")
        older = None if self.resume else last_written(checkpoint)

        from napari_d3ip.reconstruction import reconstruct

        try:
            # Libraries that print must not spoil the one object on standard output.
            with contextlib.redirect_stdout(sys.stderr), show_progress() as show:
                result = reconstruct(
                    measurement,
                    settings,
                    reference=truth,
                    on_step=lambda step: show(step.phase, step.index, step.total, step.eta_seconds),
                    checkpoint=checkpoint,
                    resume=self.resume,
                )
                result.save(self.out, self.part)
                if self.save_adapter is not None and result.adapter is not None:
                    result.save_adapter(self.save_adapter)
            if checkpoint is not None:
                checkpoint.unlink(missing_ok=True)  # Only now is nothing lost if it goes.
        except KeyboardInterrupt:
            raise interruption(checkpoint, older) from None
        return result


def _check_adapter(folder: Path, settings: Settings) -> None:
    """Find out before the long computation whether the run makes adapters that can be kept, and has a place for them.

    Raises
    ------
    D3IPError
        If not.
    """
    from napari_d3ip.adaptation.saved import check_folder

    makers = names_where(lambda method: method.adapts == "volume")
    if settings.method not in makers or settings.adapt_biases:
        raise SettingsError(
            f"save-adapter: only {', '.join(makers)} without adapt_biases make adapters to keep; leave it out."
        )
    check_folder(folder)


def _sentence(result: Reconstruction, out: Path) -> str:
    from napari_d3ip.reconstruction.result import adaptation_end

    metrics = result.metrics
    parts = [f"{metrics['seconds']:.1f} s on {metrics['device']}"]
    for label, name, form in (
        ("residual", "residual", ".3f"),
        ("held-out residual", "held_out_residual", ".3f"),
        ("PSNR", "psnr", ".2f"),
        ("SSIM", "ssim", ".3f"),
    ):
        if metrics[name] is not None:
            parts.append(f"{label} {metrics[name]:{form}}")
    if (ended := adaptation_end(metrics)) is not None:
        parts.append(ended)
    what = f"{out}: {shape_text(result.volume.shape)} voxels by {metrics['returned']}, {', '.join(parts)}."
    return "\n".join(printable(line) for line in (what, metrics["verdict"], metrics["misfit"]) if line)
