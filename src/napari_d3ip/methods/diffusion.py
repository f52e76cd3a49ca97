"""The diffusion methods by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from napari_d3ip.methods.d3ip import d3ip, d3ip_meta, ddip, scd
from napari_d3ip.methods.dds import ddnm, dds, diffpir, dps
from napari_d3ip.methods.sampling import Event, SamplerState
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.solvers.problem import Problem

METHODS: dict[str, Callable[[Problem, DiffusionPrior, SamplerState], Iterator[Event]]] = {
    "dds": dds,
    "ddnm": ddnm,
    "diffpir": diffpir,
    "dps": dps,
    "scd": scd,
    "ddip": ddip,
    "d3ip": d3ip,
    "d3ip-mbir": d3ip,
    "d3ip-meta": d3ip_meta,
}
