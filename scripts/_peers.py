"""Reconstructions by other programs, their weights chosen from the scan: SIRT (ASTRA), svmbir, BART."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from _measured_scans import astra_projector, best_by_views
from make_mri_results import bart_maps, run_bart

from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.operators.mri import centred_fft

Array = np.ndarray
_SIRT_ITERATIONS = (30, 100, 300)
_SHARPNESS = (0.0, 1.0)
_BART_WEIGHTS = tuple(float(weight) for weight in np.geomspace(3e-4, 3e-2, 9))


def sirt(scan: Sinogram) -> tuple[Array, str]:
    """Run SIRT with or without the sign, and as many iterations as left-out views like best."""

    def run(part: Sinogram, choice: tuple[int, bool]) -> Array:
        return astra_projector(part).sirt(part.data, choice[0], nonnegative=choice[1])

    choice = best_by_views(scan, list(product(_SIRT_ITERATIONS, (True, False))), run)
    return run(scan, choice), f"{choice[0]} iterations, sign {choice[1]}"


def svmbir(scan: Sinogram) -> tuple[Array, str]:
    """Run svmbir on parallel rays with its automatic weights, sharpness and sign by left-out views."""
    import svmbir as package

    def run(part: Sinogram, choice: tuple[float, bool]) -> Array:
        detectors = part.data.shape[-1]
        middle = (detectors - 1) / 2
        rows, columns = part.volume_shape[1:]
        volume = package.recon(
            np.ascontiguousarray(part.data.transpose(1, 0, 2), np.float32),
            np.deg2rad(np.asarray(part.angles, float)),
            center_offset=(middle if part.center is None else part.center) - middle,
            sharpness=choice[0],
            positivity=choice[1],
            num_rows=rows,
            num_cols=columns,
            num_threads=1,
            verbose=0,
        )
        return np.rot90(volume, 3, axes=(1, 2))[:, :, ::-1]

    choice = best_by_views(scan, list(product(_SHARPNESS, (True, False))), run)
    return run(scan, choice), f"sharpness {choice[0]}, sign {choice[1]}"


def bart(scan: KSpace, term: str) -> tuple[Array, str]:
    """Run ``bart pics`` with the weight that a tenth of the samples, held out, like best."""
    mask = np.asarray(scan.mask, bool).reshape(scan.data.shape[-2:])
    held_out = mask & (np.random.default_rng(0).random(mask.shape) < 0.1)
    maps, _ = bart_maps(scan.data)

    def run(data: Array, weight: float) -> Array:
        inputs = [data.transpose(3, 2, 0, 1), maps.transpose(3, 2, 0, 1)]
        image, _ = run_bart(["pics", "-S", "-R", f"{term}:{weight:g}", "-i", "100"], inputs)
        return image.reshape(image.shape[:3]).transpose(2, 1, 0)

    def missed(weight: float) -> float:
        image = run(scan.data * ~held_out, weight)
        samples = centred_fft(torch.from_numpy(maps * image[:, None])).numpy()[..., held_out]
        measured = scan.data[..., held_out]
        # BART works at a scale of its own.
        scale = np.vdot(samples, measured) / np.vdot(samples, samples)
        return float(np.square(np.abs(scale * samples - measured)).mean())

    weight = min(_BART_WEIGHTS, key=missed)
    return np.abs(run(scan.data, weight)), f"{term}:{weight:.2g}"
