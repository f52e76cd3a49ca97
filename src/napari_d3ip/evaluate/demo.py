"""The demo: every kind of method on the bundled samples."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from napari_d3ip.evaluate.figures import Panel, draw_comparison, middle_slice
from napari_d3ip.evaluate.folder import make_folder
from napari_d3ip.evaluate.plan import default_methods
from napari_d3ip.evaluate.side_by_side import in_processes
from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.samples import load_reference, load_sample
from napari_d3ip.settings import METHODS

Wanted = tuple[str, str]
"""Sample and method."""
Made = tuple[dict[str, Any], FloatArray]

# The simulated brain takes as long as the others together.
DEMO_SAMPLES = ("tilt-series", "chest-ct", "phantom-mri")
# The tilt series has no truth: every eighth tilt is kept from all methods, which then have to predict it.
# So that all of it takes less than five minutes on two cores, of few slices, and adapted twice.
_DEMO_SETTINGS: dict[str, dict[str, Any]] = {"tilt-series": {"held_out_views": 8, "adapt_every": 6}}
_DEMO_SLICES = {"tilt-series": slice(12, 20)}
# Small scans do not keep more than one core busy. Each process takes about a gigabyte.
_MOST_PROCESSES = 4


def run_demo(folder: Path, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Reconstruct the bundled samples with every kind of method, as many at a time as there are cores, up to four.

    Writes a TIFF volume per sample and method, ``comparison.png`` and ``results.json`` to ``folder``.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    progress : callable
        Given a line after each reconstruction.

    Returns
    -------
    list of dict
        `Reconstruction.summary` of each, with ``"sample"``.

    Raises
    ------
    FileError
        If the folder cannot be written.
    """
    make_folder(folder)
    scans = {sample: _load(sample) for sample in DEMO_SAMPLES}
    wanted = [(sample, method) for sample, (scan, _) in scans.items() for method in default_methods(scan.kind)]
    made: dict[Wanted, Made] = {}
    for (sample, method), row_and_slice in _reconstructed(wanted, folder):
        made[sample, method] = row_and_slice
        progress(f"{len(made)} of {len(wanted)}: {sample}, {method}, {row_and_slice[0]['seconds']:.0f} s")
    results = [made[each][0] for each in wanted]
    panels = {sample: Panel.of(sample, *scan) for sample, scan in scans.items()}
    for sample, method in wanted:
        row, image = made[sample, method]
        panels[sample].images[method] = image, row
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw_comparison(folder / "comparison.png", list(panels.values()))
    return results


def _load(sample: str) -> tuple[Measurement, FloatArray | None]:
    return load_sample(sample).select(slices=_DEMO_SLICES.get(sample)), load_reference(sample)


def _reconstructed(wanted: list[Wanted], folder: Path) -> Iterator[tuple[Wanted, Made]]:
    """Sample, method, and what was made of each as it ends."""
    run = partial(_run, folder)
    count = min(_MOST_PROCESSES, os.cpu_count() or 1, len(wanted))
    if count == 1:
        yield from ((each, run(each)) for each in wanted)
        return
    # Adapting methods are the last of each sample and take longest.
    longest_first = sorted(wanted, key=lambda each: list(METHODS).index(each[1]), reverse=True)
    yield from in_processes(run, longest_first, ", ".join, count)


def _run(folder: Path, wanted: Wanted) -> Made:
    """Row of the results and middle slice; the volume is in the folder."""
    sample, method = wanted
    scan, reference = _load(sample)
    result = reconstruct(scan, reference=reference, method=method, **_DEMO_SETTINGS.get(sample, {}))
    result.save(folder / f"{sample}_{method}.tif")
    return {"sample": sample, **result.summary()}, middle_slice(result.volume)
