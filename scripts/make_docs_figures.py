"""Draw the figures of the documentation from 12 slices of the chest sample, seen over 90°.

``python scripts/make_docs_figures.py`` writes into docs/images: ``sampling_step.png``, what a sampling step does,
and ``missing_wedge.png``, what methods, uncertainty and residual make of missing directions. A few minutes on two
cores.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import napari_d3ip as d3
from napari_d3ip.methods import sampling as methods
from napari_d3ip.samples import load_reference

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SLICES, SHOWN = slice(10, 22), 6
SEEDS = 4


def grid(columns: int, rows: int = 1) -> tuple[Figure, Any]:
    """Figure of pictures without frames."""
    figure = Figure(figsize=(2.1 * columns, 2.4 * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def save(figure: Figure, name: str) -> None:
    """Write a picture of few colours, which keeps it small."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    Image.open(stream).convert("RGB").quantize(64).save(IMAGES / name, optimize=True)


def sampling_step(scan: d3.Sinogram, top: float) -> None:
    """Noised volume, denoised volume, and what data consistency makes of it, at two times."""
    seen: list[tuple[int, list[np.ndarray]]] = []
    denoise = methods.denoise

    def recorded(problem: Any, prior: Any, state: Any, epsilon: Any, t: int) -> Any:
        estimate = denoise(problem, prior, state, epsilon, t)
        noised = prior.denormalise(state.x_t / prior.alphas_cumprod[t].sqrt())
        seen.append((t, [volume[SHOWN].numpy() for volume in (state.volume, noised, estimate)]))
        return estimate

    with patch.object(methods, "denoise", recorded):
        result = d3.reconstruct(scan, method="dds", planes="axial")
    figure, axes = grid(4, 2)
    for row, index in zip(axes, (0, len(seen) // 2), strict=True):
        t, pictures = seen[index]
        _, (after, *_) = seen[index + 1]
        titles = ("volume before", f"noised, t = {t}", "denoised by the prior", "after data consistency")
        for axis, title, picture in zip(row, titles, [*pictures, after], strict=True):
            # All in the intensities of the engine, about [0, 1].
            axis.imshow(picture, cmap="gray", vmin=0, vmax=top * pictures[0].max() / result.volume[SHOWN].max())
            axis.set_title(title, fontsize=9)
    save(figure, "sampling_step.png")


def missing_wedge(scan: d3.Sinogram, truth: np.ndarray, top: float) -> None:
    """Methods side by side, and below what error, uncertainty and residual say of the last one."""
    volumes = {method: d3.reconstruct(scan, method=method) for method in ("cg", "tv")}
    spread = d3.uncertainty(scan, d3.Settings(method="dds"), seeds=SEEDS)
    first = d3.reconstruct(scan, method="dds")
    error = first.volume - truth
    figure, axes = grid(4, 2)
    shown = {"truth": truth} | {name: result.volume for name, result in volumes.items()} | {"dds": first.volume}
    for axis, (name, volume) in zip(axes[0], shown.items(), strict=True):
        axis.imshow(volume[SHOWN], cmap="gray", vmin=0, vmax=top)
        axis.set_title(name, fontsize=9)
    inside = truth > 0.1 * top
    rms_error, rms_spread = (float(np.sqrt((part[inside] ** 2).mean())) for part in (error, spread.deviation))
    outside = float((np.abs(error[inside]) > 2 * spread.deviation[inside]).mean())
    for axis, name, part in (
        (axes[1, 0], "|error| of dds", np.abs(error)),
        (axes[1, 1], "uncertainty", spread.deviation),
    ):
        axis.imshow(part[SHOWN], cmap="inferno", vmin=0, vmax=0.3 * top)
        axis.set_title(f"{name}, same colours", fontsize=9)
    residual = first.residual()
    axes[1, 2].imshow(residual[SHOWN], cmap="coolwarm", vmin=-4, vmax=4, aspect="auto")
    axes[1, 2].set_title("residual / noise level", fontsize=9)
    axes[1, 3].scatter(spread.deviation[inside][::20], np.abs(error[inside])[::20], s=1, color="0.4")
    limit = 0.3 * top
    axes[1, 3].plot([0, limit], [0, 2 * limit], "r-", linewidth=1)
    axes[1, 3].set(xlim=(0, limit), ylim=(0, limit), xticks=[], yticks=[], xlabel="uncertainty", ylabel="|error|")
    axes[1, 3].set_axis_on()
    axes[1, 3].set_title("voxels; line: 2 deviations", fontsize=9)
    save(figure, "missing_wedge.png")
    print(
        f"inside the object: root mean square error {rms_error:.3g}, uncertainty {rms_spread:.3g}; beyond 2 deviations"
    )
    print(f"{outside:.0%} of the voxels; residual {float(residual.std()):.2f} noise levels")


def main() -> None:
    """Draw both."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    truth = load_reference("chest-ct")[SLICES]
    scan = d3.simulate_sinogram(truth, views=45, angle_range=90, noise=0.005)
    top = 0.6 * float(truth.max())  # Bone may be white.
    sampling_step(scan, top)
    missing_wedge(scan, truth, top)


if __name__ == "__main__":
    main()
