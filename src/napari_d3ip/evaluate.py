"""Method tables and figures: what the methods make of scans, side by side. Knows no Qt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.reconstruction import Reconstruction, reconstruct
from napari_d3ip.samples import load_reference, load_sample
from napari_d3ip.settings import methods_for

FloatArray = npt.NDArray[np.float32]
# The simulated brain takes as long as the others together.
DEMO_SAMPLES = ("tilt-series", "chest-ct", "phantom-mri")
# The tilt series has no truth: every eighth tilt is kept from all methods, which then have to predict it.
_DEMO_SETTINGS: dict[str, dict[str, Any]] = {"tilt-series": {"held_out_views": 8}}


def run_demo(folder: Path, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Reconstruct the bundled samples with every kind of method.

    Writes a TIFF volume per sample and method, ``comparison.png`` and ``results.json`` to ``folder``.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    progress : callable
        Given a line before each reconstruction.

    Returns
    -------
    list of dict
        `Reconstruction.summary` of each, with ``"sample"``.

    Raises
    ------
    FileError
        If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be made ({error.strerror}); choose another folder.") from error
    results: list[dict[str, Any]] = []
    panels: list[tuple[str, FloatArray | None, dict[str, Reconstruction]]] = []
    for sample in DEMO_SAMPLES:
        scan, reference = load_sample(sample), load_reference(sample)
        by_method: dict[str, Reconstruction] = {}
        for method in demo_methods(scan.kind):
            progress(f"{sample}: {method} ...")
            by_method[method] = reconstruct(scan, reference=reference, method=method, **_DEMO_SETTINGS.get(sample, {}))
            by_method[method].save(folder / f"{sample}_{method}.tif")
            results.append({"sample": sample, **by_method[method].summary()})
        panels.append((sample, reference, by_method))
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw_comparison(folder / "comparison.png", panels)
    return results


def demo_methods(kind: str) -> tuple[str, ...]:
    """Methods that the demo compares on a kind of measurement; slice-wise ddip would take minutes."""
    return tuple(method for method in methods_for(kind) if method != "ddip")


def draw_comparison(path: Path, panels: list[tuple[str, FloatArray | None, dict[str, Reconstruction]]]) -> None:
    """Figure of the middle slice by every method, and of its error where the truth is known.

    Parameters
    ----------
    path : Path
        PNG to write.
    panels : list of (sample, reference, reconstructions by method)
        One block of rows a sample.
    """
    from matplotlib.figure import Figure

    columns = 1 + max(len(by_method) for _, _, by_method in panels)
    heights = []
    for _, reference, by_method in panels:
        window = _window(_shown(reference, by_method))
        aspect = (window[0].stop - window[0].start) / (window[1].stop - window[1].start)
        heights += [aspect] if reference is None else [aspect, aspect]
    width = 2.3
    figure = Figure(
        figsize=(width * columns, width * sum(heights) + 0.55 * len(heights)), layout="constrained", facecolor="white"
    )
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set_axis_off()
    row = 0
    for sample, reference, by_method in panels:
        best = _best(by_method)
        shown = _shown(reference, by_method)
        index, window = len(shown) // 2, _window(shown)
        low, high = 0.0, float(np.quantile(shown[index], 0.998))
        first = axes[row][0]
        if reference is None:
            views = next(iter(by_method.values())).measurement.data[index]
            first.imshow(views, cmap="gray", aspect="auto")
            first.set_title(f"{sample}\nmeasured tilts", fontsize=10)
        else:
            first.imshow(reference[index][window], cmap="gray", vmin=low, vmax=high)
            first.set_title(f"{sample}\nreference", fontsize=10)
            axes[row + 1][0].text(0.5, 0.5, "error\n(blue: too low,\nred: too high)", ha="center", va="center")
        for column, (method, result) in enumerate(by_method.items(), start=1):
            axes[row][column].imshow(result.volume[index][window], cmap="gray", vmin=low, vmax=high)
            weight = "bold" if method == best else "normal"
            axes[row][column].set_title(f"{method}\n{_caption(result)}", fontsize=10, fontweight=weight)
            if reference is not None:
                error = (result.volume[index] - reference[index])[window]
                axes[row + 1][column].imshow(error, cmap="RdBu_r", vmin=-0.25 * high, vmax=0.25 * high)
        row += 1 if reference is None else 2
    figure.savefig(path, dpi=110)


def _best(by_method: dict[str, Reconstruction]) -> str:
    return max(by_method, key=lambda method: _score(by_method[method]))


def _shown(reference: FloatArray | None, by_method: dict[str, Reconstruction]) -> FloatArray:
    """Volume that sets window and grey levels: the truth, or the best there is."""
    return reference if reference is not None else by_method[_best(by_method)].volume


def _score(result: Reconstruction) -> float:
    psnr = result.metrics["psnr"]
    return float(psnr if psnr is not None else -result.metrics["held_out_residual"])


def _caption(result: Reconstruction) -> str:
    psnr, ssim, unseen = (result.metrics[key] for key in ("psnr", "ssim", "held_out_residual"))
    return f"left-out tilts {unseen:.3f}" if psnr is None else f"{psnr:.1f} dB, SSIM {ssim:.3f}"


def _window(volume: FloatArray) -> tuple[slice, slice]:
    """Rows and columns that hold the object, with a margin."""
    strength = np.abs(volume).max(axis=0)
    inside = strength > 0.1 * np.quantile(strength, 0.995)
    bounds = []
    for axis in (1, 0):
        occupied = np.flatnonzero(inside.any(axis=axis))
        bounds.append(slice(max(0, int(occupied[0]) - 4), int(occupied[-1]) + 5))
    return bounds[0], bounds[1]
