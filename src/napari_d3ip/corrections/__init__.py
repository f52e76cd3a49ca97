"""Corrections of sinograms before reconstruction, as an ordered chain that is recorded.

Each is one function in a module of its kind with a record in the registry; the chain parses, applies and records
them. Knows measurements and solvers; no files.
"""

from napari_d3ip.corrections import drift, missing, physics, pixels, stripes
from napari_d3ip.corrections.chain import apply, correct, parse, text
from napari_d3ip.corrections.registry import CORRECTIONS, Corrected, Correction

__all__ = [
    "CORRECTIONS",
    "Corrected",
    "Correction",
    "apply",
    "correct",
    "drift",
    "missing",
    "parse",
    "physics",
    "pixels",
    "stripes",
    "text",
]
