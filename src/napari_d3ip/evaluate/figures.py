"""Figures of an evaluation: slices and their errors, quality and seconds along a sweep, differences of methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_d3ip.evaluate.tables import Difference, TableRow
from napari_d3ip.measurement import FloatArray, Measurement

_QUALITY = {"psnr": "PSNR / dB", "held_out_residual": "held-out residual", "seconds": "seconds"}


@dataclass(frozen=True)
class Panel:
    """Middle slice of a scan reconstructed by every method.

    Parameters
    ----------
    name : str
        Name of the scan.
    measured : ndarray
        Measured data of the slice, as an image.
    reference : ndarray or None
        Reference slice.
    images : dict
        Slice and metrics (psnr, ssim, residual, held_out_residual) by method.
    """

    name: str
    measured: FloatArray
    reference: FloatArray | None
    images: dict[str, tuple[FloatArray, Mapping[str, Any]]] = field(default_factory=dict)

    @classmethod
    def from_scan(cls, name: str, measurement: Measurement, reference: FloatArray | None) -> Panel:
        """Create the panel of a scan, without images yet."""
        measured = middle_slice(measurement.data)
        if np.iscomplexobj(measured):
            strength = np.abs(measured[0])  # Of the first coil.
            measured = np.log1p(strength / np.quantile(strength, 0.9, method="higher").clip(1e-30))
        return cls(name, measured, None if reference is None else middle_slice(reference))

    @property
    def best(self) -> str:
        """Return the method with the highest PSNR, or else the lowest held-out residual, or else the first."""
        return max(self.images, key=lambda method: _score(self.images[method][1]))

    @property
    def shown(self) -> FloatArray:
        """Return the slice that sets window and grey levels: the reference, or the best one."""
        return self.images[self.best][0] if self.reference is None else self.reference


def middle_slice(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the slice in the middle of axis z."""
    middle: npt.NDArray[Any] = volume[len(volume) // 2]
    return middle


def draw_comparison(path: Path, panels: Sequence[Panel]) -> None:
    """Draw the middle slice by every method, and its error if there is a reference.

    Parameters
    ----------
    path : Path
        PNG to write.
    panels : sequence of Panel
        Panels, one block of rows each.
    """
    columns = 1 + max(len(panel.images) for panel in panels)
    heights = []
    for panel in panels:
        rows, across = _window(panel.shown)
        aspect = (rows.stop - rows.start) / (across.stop - across.start)
        heights += [aspect] if panel.reference is None else [aspect, aspect]
    width = 2.3
    figure = Figure(
        figsize=(width * columns, width * sum(heights) + 0.55 * len(heights)), layout="constrained", facecolor="white"
    )
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set_axis_off()
    row = 0
    for panel in panels:
        _draw_panel(axes[row:], panel)
        row += 1 if panel.reference is None else 2
    figure.savefig(path, dpi=110)


def _draw_panel(axes: npt.NDArray[Any], panel: Panel) -> None:
    window, reference = _window(panel.shown), panel.reference
    low, high = 0.0, float(np.quantile(panel.shown, 0.998)) or 1.0
    first = axes[0][0]
    if reference is None:
        first.imshow(panel.measured, cmap="gray", aspect="auto")
        first.set_title(f"{panel.name}\nmeasured", fontsize=10)
    else:
        first.imshow(reference[window], cmap="gray", vmin=low, vmax=high)
        first.set_title(f"{panel.name}\nreference", fontsize=10)
        axes[1][0].text(0.5, 0.5, "error\n(blue: too low,\nred: too high)", ha="center", va="center")
    for column, (method, (image, metrics)) in enumerate(panel.images.items(), start=1):
        axes[0][column].imshow(image[window], cmap="gray", vmin=low, vmax=high)
        is_best = method == panel.best and math.isfinite(_score(metrics))
        axes[0][column].set_title(
            f"{method}\n{_caption(metrics)}", fontsize=10, fontweight="bold" if is_best else "normal"
        )
        if reference is not None:
            error = (image - reference)[window]
            axes[1][column].imshow(error, cmap="RdBu_r", vmin=-0.25 * high, vmax=0.25 * high)


def _score(metrics: Mapping[str, Any]) -> float:
    if metrics["psnr"] is not None:
        return float(metrics["psnr"])
    held_out = metrics["held_out_residual"]
    return -math.inf if held_out is None else -float(held_out)


def _caption(metrics: Mapping[str, Any]) -> str:
    psnr, ssim, held_out = (metrics[key] for key in ("psnr", "ssim", "held_out_residual"))
    if psnr is not None:
        return f"{psnr:.1f} dB, SSIM {ssim:.3f}"
    return f"residual {metrics['residual']:.3f}" if held_out is None else f"held-out residual {held_out:.3f}"


def _window(image: FloatArray) -> tuple[slice, slice]:
    """Return the rows and columns that contain the object, with a margin."""
    strength = np.abs(image)
    inside = strength > 0.1 * np.quantile(strength, 0.995)
    bounds = []
    for axis in (1, 0):
        occupied = np.flatnonzero(inside.any(axis=axis))
        if not occupied.size:
            return slice(0, image.shape[0]), slice(0, image.shape[1])
        bounds.append(slice(max(0, int(occupied[0]) - 4), int(occupied[-1]) + 5))
    return bounds[0], bounds[1]


def draw_sweep(path: Path, key: str, lines: Sequence[TableRow]) -> None:
    """Draw quality and seconds against a setting, one curve per scan and method, error bars over seeds.

    Parameters
    ----------
    path : Path
        PNG to write.
    key : str
        Setting that was swept.
    lines : sequence of Line
        Rows of the table; only those of this sweep are drawn.
    """
    curves: dict[str, list[TableRow]] = {}
    for line in lines:
        if line.sweep is not None and line.sweep["key"] == key:
            curves.setdefault(f"{line.scan}, {line.method}", []).append(line)
    names = [name for name in _QUALITY if any(line.values[name] for curve in curves.values() for line in curve)]
    figure = Figure(figsize=(4.2 * len(names), 3.8), layout="constrained", facecolor="white")
    panels: npt.NDArray[Any] = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(panels, names, strict=True):
        _draw_curves(axis, name, curves)
        axis.set_xlabel(key)
        axis.set_ylabel(_QUALITY[name])
        axis.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=110)


def draw_differences(path: Path, compared: Sequence[Difference]) -> None:
    """Draw the differences of methods, one point with its interval each, the scans below each other.

    Parameters
    ----------
    path : Path
        PNG to write.
    compared : sequence of Difference
        Differences from top to bottom.
    """
    figure = Figure(figsize=(7.5, 0.9 + 0.26 * len(compared)), layout="constrained", facecolor="white")
    axis = figure.subplots()
    axis.axvline(0, color="0.5", linewidth=1)
    for row, one in enumerate(compared):
        low, high = one.interval or (one.mean, one.mean)
        axis.plot([low, high], [row, row], color="C0" if one.mean >= 0 else "C3", linewidth=2)
        axis.plot(one.mean, row, "o", color="C0" if one.mean >= 0 else "C3")
    axis.set_yticks(range(len(compared)), [f"{one.scan}: {one.label} − {one.rival}" for one in compared], fontsize=8)
    axis.set_ylim(len(compared) - 0.5, -0.5)
    axis.set_xlabel("difference of PSNR / dB, with the interval of 95 % over slices and seeds")
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def _draw_curves(axis: Axes, name: str, curves: Mapping[str, Sequence[TableRow]]) -> None:
    for label, curve in curves.items():
        points = [
            (line.sweep["value"], statistic.mean, statistic.deviation or 0.0)
            for line in curve
            if line.sweep is not None and (statistic := line.values[name]) is not None
        ]
        if points:
            values, means, deviations = zip(*points, strict=True)
            axis.errorbar(_positions(values), means, deviations, marker="o", capsize=3, label=label)


def _positions(values: Sequence[Any]) -> list[float] | list[str]:
    """Return numbers if all values are numbers, else names."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return [str(value) for value in values]
