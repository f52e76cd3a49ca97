"""Registry of the kinds of measurement: what settings, messages and menus know of each.

To add a kind, derive a class from `napari_d3ip.measurement.Measurement`, register a `Kind` of the same name here, and
its preparation with `napari_d3ip.preparation.base.prepare_kind`. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Task = Literal["auto", "sparse-view", "limited-angle", "accelerated-mri", "images"]

_MRI_FIELDS = (
    "wavelet_weight",
    "wavelet_factor",
    "remove_phase",
    "phase_constraint",
    "calibration_width",
    "virtual_coils",
)
_VIEW_FIELDS = ("backend", "held_out_views", "adapt_leave_out", "adapt_pattern", "adapt_splits")


@dataclass(frozen=True)
class Kind:
    """A kind of measurement.

    Parameters
    ----------
    name : str
        `Measurement.kind`.
    title : str
        In a sentence, with its article.
    tasks : tuple of str
        What a scan of this kind may lack.
    excluded : tuple of str
        Settings that mean nothing for it.
    like : str
        A kind whose methods reconstruct from this one, too.
    """

    name: str
    title: str
    tasks: tuple[Task, ...] = ("auto", "images")
    excluded: tuple[str, ...] = (*_MRI_FIELDS, *_VIEW_FIELDS)
    like: str = ""


_REGISTERED: dict[str, Kind] = {}
KINDS: Mapping[str, Kind] = MappingProxyType(_REGISTERED)
"""All kinds of measurement by name."""


def register_kind(kind: Kind) -> Kind:
    """Add a kind of measurement, in place of one of the same name."""
    _REGISTERED[kind.name] = kind
    return kind


register_kind(Kind("sinogram", "a sinogram", ("auto", "sparse-view", "limited-angle"), _MRI_FIELDS))
register_kind(Kind("kspace", "k-space", ("auto", "accelerated-mri"), ("nonnegative", "held_out_views", "backend")))
register_kind(Kind("stack", "a stack of images"))
register_kind(Kind("linear", "data of another operator"))
