"""The demo: every kind of method on the bundled samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_d3ip.evaluate.figures import Panel, draw_comparison, middle_slice
from napari_d3ip.evaluate.folder import make_folder
from napari_d3ip.evaluate.plan import default_methods
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.samples import load_reference, load_sample

# The simulated brain takes as long as the others together.
DEMO_SAMPLES = ("tilt-series", "chest-ct", "phantom-mri")
# The tilt series has no truth: every eighth tilt is kept from all methods, which then have to predict it.
# So that all of it takes less than five minutes on two cores, of few slices, and adapted once.
_DEMO_SETTINGS: dict[str, dict[str, Any]] = {"tilt-series": {"held_out_views": 8, "adapt_every": 6}}
_DEMO_SLICES = {"tilt-series": slice(12, 20)}


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
    make_folder(folder)
    results: list[dict[str, Any]] = []
    panels: list[Panel] = []
    for sample in DEMO_SAMPLES:
        scan, reference = load_sample(sample), load_reference(sample)
        scan = scan.select(slices=_DEMO_SLICES.get(sample))
        panels.append(Panel.of(sample, scan, reference))
        for method in default_methods(scan.kind):
            progress(f"{sample}: {method} ...")
            result = reconstruct(scan, reference=reference, method=method, **_DEMO_SETTINGS.get(sample, {}))
            result.save(folder / f"{sample}_{method}.tif")
            results.append({"sample": sample, **result.summary()})
            panels[-1].images[method] = middle_slice(result.volume), result.metrics
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw_comparison(folder / "comparison.png", panels)
    return results
