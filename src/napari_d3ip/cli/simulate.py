"""Command `simulate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from napari_d3ip.cli.output import check_output, shape_text
from napari_d3ip.cli.parse import parse_numbers
from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import ImageStack, KSpace, Sinogram

# Blur and distance of measured slices of simulated stacks.
_STACKS = {"deconvolution": ([3.0], 1), "inpainting": ([0.0], 3)}
# Options of simulate by the kinds that have them.
_SIMULATED = {
    ("ct",): ("views", "angle_range", "photons", "optical_depth", "projector"),
    ("mri",): ("acceleration", "coils", "pattern", "calibration"),
    tuple(_STACKS): ("fwhm", "every"),
}


def simulate(
    context: typer.Context,
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="Volume (z, y, x) to measure.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Scan to write: .h5 (ct only) or .npz.")],
    kind: Annotated[str, typer.Option(help="Kind of measurement: ct, mri, deconvolution or inpainting.")] = "ct",
    views: Annotated[int, typer.Option(min=1, help="ct: number of projections.")] = 60,
    angle_range: Annotated[float, typer.Option(help="ct: degrees the projections cover.")] = 180.0,
    acceleration: Annotated[float, typer.Option(min=1, help="mri: how much of k-space is left out.")] = 4.0,
    coils: Annotated[int, typer.Option(min=1, help="mri: number of coils.")] = 8,
    pattern: Annotated[str, typer.Option(help="mri: uniform, random or poisson.")] = "uniform",
    calibration: Annotated[int | None, typer.Option(min=0, help="mri: fully sampled lines in the centre.")] = None,
    fwhm: Annotated[
        str | None,
        typer.Option(
            metavar="F|Z,Y,X",
            help="deconvolution, inpainting: full width at half maximum of the blur in voxels (default: 3 and 0).",
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="deconvolution, inpainting: measure every n-th slice (default: 1 and 3)."),
    ] = None,
    noise: Annotated[
        float,
        typer.Option(
            min=0,
            help="Noise; ct: of a line integral, as a fraction of their mean; else: of a pixel of the full scan's "
            "image, as a fraction of their mean.",
        ),
    ] = 0.0,
    photons: Annotated[
        float | None,
        typer.Option(min=1, help="ct: photons that a detector pixel counts in a view without the object (Poisson)."),
    ] = None,
    optical_depth: Annotated[
        float | None,
        typer.Option(
            help="ct: with --photons, largest line integral, which VOLUME is scaled to while they are counted "
            "(default: VOLUME is attenuation per pixel)."
        ),
    ] = None,
    projector: Annotated[
        str,
        typer.Option(help="ct: joseph, as in reconstructions, or rotation, a foreign one (splines; slower)."),
    ] = "joseph",
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is random.")] = 0,
) -> None:
    """Simulate a scan of VOLUME."""
    from napari_d3ip.io import load_volume, save_kspace, save_sinogram, save_stack

    if kind not in ("ct", "mri", *_STACKS):
        raise SettingsError(f"kind: '{kind}' cannot be simulated; use ct, mri, deconvolution or inpainting.")
    for kinds, options in _SIMULATED.items():
        for name in options if kind not in kinds else ():
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise SettingsError(f"{name}: belongs to --kind {' or '.join(kinds)}, not {kind}; leave it out.")
    image = load_volume(volume)
    if kind in _STACKS:
        check_output(out, lambda path: save_stack(path, ImageStack(np.ones((1, 1, 1), np.float32))), volume)

        from napari_d3ip.simulate import simulate_stack

        blur, step = _STACKS[kind]
        widths = blur if fwhm is None else parse_numbers(fwhm, "fwhm")
        stack = simulate_stack(image.data, fwhm=widths, every=every or step, noise=noise, seed=seed)
        save_stack(out, replace(stack, voxel_size=image.voxel_size, unit=image.unit))
        print(f"{out}: {shape_text(image.data.shape)} voxels, {stack.measured:.0%} of them measured.")
        return
    if kind == "ct":
        check_output(
            out, lambda path: save_sinogram(path, Sinogram(np.ones((1, 1, 1), np.float32), np.zeros(1))), volume
        )

        from napari_d3ip.simulate import simulate_sinogram

        sinogram = simulate_sinogram(
            image.data,
            views=views,
            angle_range=angle_range,
            noise=noise,
            photons=photons,
            optical_depth=optical_depth,
            projector=projector,
            seed=seed,
        )
        save_sinogram(out, replace(sinogram, voxel_size=image.voxel_size, unit=image.unit))
        print(f"{out}: {views} views of {shape_text(image.data.shape)} voxels over {angle_range:g} degrees.")
        return
    check_output(out, lambda path: save_kspace(path, KSpace(np.ones((1, 1, 1, 1), np.complex64))), volume)

    from napari_d3ip.simulate import simulate_kspace

    k_space = simulate_kspace(
        image.data,
        acceleration=acceleration,
        coils=coils,
        pattern=pattern,
        calibration=calibration,
        noise=noise,
        seed=seed,
    )
    save_kspace(out, replace(k_space, voxel_size=image.voxel_size, unit=image.unit))
    print(
        f"{out}: {coils} coils, {k_space.acceleration:.2g}-fold accelerated, of {shape_text(image.data.shape)} voxels."
    )
