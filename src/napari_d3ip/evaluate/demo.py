"""Demo: every kind of method on the bundled samples."""

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
# The tilt series has no reference: every eighth tilt is held out from all methods, which must predict it.
# For the whole demo to take less than five minutes on two cores: few slices, two adaptations.
_DEMO_SETTINGS: dict[str, dict[str, Any]] = {"tilt-series": {"held_out_views": 8, "adapt_every": 6}}
_DEMO_SLICES = {"tilt-series": slice(12, 20)}
# Small scans use one core only. Each process takes about a gigabyte.
_MOST_PROCESSES = 4


def run_demo(folder: Path, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Reconstruct the bundled samples with every kind of method, in up to four processes.

    Writes a TIFF volume per sample and method, ``comparison.png`` and ``results.json`` to ``folder``.

    Parameters
    ----------
    folder : Path
        Folder to write to; created if necessary.
    progress : callable
        Called with a line after each reconstruction.

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
    for (sample, method), row_and_slice in _reconstruct_all(wanted, folder):
        made[sample, method] = row_and_slice
        progress(f"{len(made)} of {len(wanted)}: {sample}, {method}, {row_and_slice[0]['seconds']:.0f} s")
    results = [made[each][0] for each in wanted]
    panels = {sample: Panel.from_scan(sample, *scan) for sample, scan in scans.items()}
    for sample, method in wanted:
        row, image = made[sample, method]
        panels[sample].images[method] = image, row
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw_comparison(folder / "comparison.png", list(panels.values()))
    return results


def _load(sample: str) -> tuple[Measurement, FloatArray | None]:
    return load_sample(sample).select(slices=_DEMO_SLICES.get(sample)), load_reference(sample)


def _reconstruct_all(wanted: list[Wanted], folder: Path) -> Iterator[tuple[Wanted, Made]]:
    """Yield sample and method with their results as they finish."""
    run = partial(_run, folder)
    count = min(_MOST_PROCESSES, os.cpu_count() or 1, len(wanted))
    if count == 1:
        yield from ((each, run(each)) for each in wanted)
        return
    # Adapting methods are the last of each sample and take longest.
    longest_first = sorted(wanted, key=lambda each: list(METHODS).index(each[1]), reverse=True)
    yield from in_processes(run, longest_first, ", ".join, count)


def _run(folder: Path, wanted: Wanted) -> Made:
    """Return the row of the results and the middle slice; write the volume to the folder."""
    sample, method = wanted
    scan, reference = _load(sample)
    result = reconstruct(scan, reference=reference, method=method, **_DEMO_SETTINGS.get(sample, {}))
    result.save(folder / f"{sample}_{method}.tif")
    return {"sample": sample, **result.summary()}, middle_slice(result.volume)
