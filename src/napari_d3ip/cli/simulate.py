"""Command `simulate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from napari_d3ip.cli.output import check_output, shape_text
from napari_d3ip.cli.parse import parse_numbers
from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import ImageStack, KSpace, Sinogram

if TYPE_CHECKING:
    from napari_d3ip.io import Volume

# Blur and distance of measured slices of simulated stacks.
_STACKS = {"deconvolution": ([3.0], 1), "inpainting": ([0.0], 3)}
# Options of simulate by the kinds that have them.
_SIMULATED = {
    ("ct",): ("views", "angle_range", "photons", "optical_depth", "projector"),
    ("mri",): ("acceleration", "coils", "pattern", "calibration"),
    tuple(_STACKS): ("fwhm", "every"),
}


@dataclass(frozen=True)
class Simulate:
    """Simulate a scan of VOLUME."""

    context: typer.Context
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="Volume (z, y, x) to measure.")]
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Scan to write: .h5 (ct only) or .npz.")]
    kind: Annotated[str, typer.Option(help="Kind of measurement: ct, mri, deconvolution or inpainting.")] = "ct"
    views: Annotated[int, typer.Option(min=1, help="ct: number of projections.")] = 60
    angle_range: Annotated[float, typer.Option(help="ct: degrees the projections cover.")] = 180.0
    acceleration: Annotated[float, typer.Option(min=1, help="mri: how much of k-space is left out.")] = 4.0
    coils: Annotated[int, typer.Option(min=1, help="mri: number of coils.")] = 8
    pattern: Annotated[str, typer.Option(help="mri: uniform, random or poisson.")] = "uniform"
    calibration: Annotated[int | None, typer.Option(min=0, help="mri: fully sampled lines in the centre.")] = None
    fwhm: Annotated[
        str | None,
        typer.Option(
            metavar="F|Z,Y,X",
            help="deconvolution, inpainting: full width at half maximum of the blur in voxels (default: 3 and 0).",
        ),
    ] = None
    every: Annotated[
        int | None,
        typer.Option(min=1, help="deconvolution, inpainting: measure every n-th slice (default: 1 and 3)."),
    ] = None
    noise: Annotated[
        float,
        typer.Option(
            min=0,
            help="Noise; ct: of a line integral, as a fraction of their mean; else: of a pixel of the full scan's "
            "image, as a fraction of their mean.",
        ),
    ] = 0.0
    photons: Annotated[
        float | None,
        typer.Option(min=1, help="ct: photons that a detector pixel counts in a view without the object (Poisson)."),
    ] = None
    optical_depth: Annotated[
        float | None,
        typer.Option(
            help="ct: with --photons, largest line integral, which VOLUME is scaled to while they are counted "
            "(default: VOLUME is attenuation per pixel)."
        ),
    ] = None
    projector: Annotated[
        str,
        typer.Option(help="ct: joseph, as in reconstructions, or rotation, a foreign one (splines; slower)."),
    ] = "joseph"
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is random.")] = 0

    def run(self) -> None:
        """Simulate the scan, write it, and print a sentence."""
        from napari_d3ip.io import load_volume

        self._check_options()
        image = load_volume(self.volume)
        simulations = {"ct": self._simulate_ct, "mri": self._simulate_mri}
        print(f"{self.out}: {simulations.get(self.kind, self._simulate_stack)(image)}")

    def _check_options(self) -> None:
        """Check that the kind is known, and that no option of another one was given.

        Raises
        ------
        SettingsError
            If not.
        """
        if self.kind not in ("ct", "mri", *_STACKS):
            raise SettingsError(f"kind: '{self.kind}' cannot be simulated; use ct, mri, deconvolution or inpainting.")
        for kinds, options in _SIMULATED.items():
            for name in options if self.kind not in kinds else ():
                source = self.context.get_parameter_source(name)
                if source is not None and source.name == "COMMANDLINE":
                    raise SettingsError(
                        f"{name}: belongs to --kind {' or '.join(kinds)}, not {self.kind}; leave it out."
                    )

    def _simulate_stack(self, image: Volume) -> str:
        from napari_d3ip.io import save_stack

        example = ImageStack(np.ones((1, 1, 1), np.float32))
        check_output(self.out, lambda path: save_stack(path, example), self.volume)

        from napari_d3ip.simulate import simulate_stack

        blur, step = _STACKS[self.kind]
        widths = blur if self.fwhm is None else parse_numbers(self.fwhm, "fwhm")
        stack = simulate_stack(image.data, fwhm=widths, every=self.every or step, noise=self.noise, seed=self.seed)
        save_stack(self.out, replace(stack, voxel_size=image.voxel_size, unit=image.unit))
        return f"{shape_text(image.data.shape)} voxels, {stack.measured:.0%} of them measured."

    def _simulate_ct(self, image: Volume) -> str:
        from napari_d3ip.io import save_sinogram

        example = Sinogram(np.ones((1, 1, 1), np.float32), np.zeros(1))
        check_output(self.out, lambda path: save_sinogram(path, example), self.volume)

        from napari_d3ip.simulate import simulate_sinogram

        sinogram = simulate_sinogram(
            image.data,
            views=self.views,
            angle_range=self.angle_range,
            noise=self.noise,
            photons=self.photons,
            optical_depth=self.optical_depth,
            projector=self.projector,
            seed=self.seed,
        )
        save_sinogram(self.out, replace(sinogram, voxel_size=image.voxel_size, unit=image.unit))
        return f"{self.views} views of {shape_text(image.data.shape)} voxels over {self.angle_range:g} degrees."

    def _simulate_mri(self, image: Volume) -> str:
        from napari_d3ip.io import save_kspace

        example = KSpace(np.ones((1, 1, 1, 1), np.complex64))
        check_output(self.out, lambda path: save_kspace(path, example), self.volume)

        from napari_d3ip.simulate import simulate_kspace

        k_space = simulate_kspace(
            image.data,
            acceleration=self.acceleration,
            coils=self.coils,
            pattern=self.pattern,
            calibration=self.calibration,
            noise=self.noise,
            seed=self.seed,
        )
        save_kspace(self.out, replace(k_space, voxel_size=image.voxel_size, unit=image.unit))
        of = f"{k_space.acceleration:.2g}-fold accelerated, of {shape_text(image.data.shape)} voxels."
        return f"{self.coils} coils, {of}"
