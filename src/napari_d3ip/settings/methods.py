"""Registry of the reconstruction methods: a record for each, from which menus, help, forms and runs follow.

To add a method, write its function in `napari_d3ip.methods` and register a `Method` here. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol

from napari_d3ip.settings.kinds import KINDS, Task

CHECKS = 20
"""How often an untrained network makes the whole volume in a run, to be validated."""


class Family(Enum):
    """What kind of algorithm a method is."""

    DIRECT = "direct"
    LEAST_SQUARES = "least squares"
    REGULARIZED = "regularized"
    UNTRAINED = "untrained network"
    DIFFUSION = "diffusion"


class Planned(Protocol):
    """What the plan of a run needs of its `RunSettings`."""

    @property
    def method(self) -> str:
        """Name of the method."""

    @property
    def iterations(self) -> int:
        """Of a classical method, at most."""

    @property
    def sampling(self) -> Any:
        """Group of settings."""

    @property
    def adaptation(self) -> Any:
        """Group of settings."""


Phases = Callable[[Planned, int], list[str]]
"""From the settings of a run and the number of slices to the phases of the run, in order."""


@dataclass(frozen=True)
class Method:
    """A reconstruction method.

    Parameters
    ----------
    name : str
        As settings, the command line and results name it.
    summary : str
        What it does, in one sentence.
    function : str or callable
        Generator that runs it, from a `napari_d3ip.methods.run.Run` to its events; as ``"module:function"`` it is
        imported when a run starts.
    family : Family
        What kind of algorithm it is.
    kinds : tuple of str
        Kinds of measurement that it reconstructs from.
    fields : tuple of str
        Settings that apply to it, beside those of all methods.
    phases : callable
        Phases of a run.
    adapts : {"", "slices", "volume"}
        Whether it adapts the prior, to every slice or to the volume.
    uses_solver : bool
        Whether its data consistency is the regularized solver.
    is_random : bool
        Whether its result depends on the seed.
    may_end_early : bool
        Whether a run may end before its last iteration.
    """

    name: str
    summary: str
    function: str | Callable[[Any], Any]
    family: Family
    kinds: tuple[str, ...]
    fields: tuple[str, ...]
    phases: Phases
    adapts: str = ""
    uses_solver: bool = False
    is_random: bool = False
    may_end_early: bool = False

    @property
    def needs_prior(self) -> bool:
        """Whether it samples with a diffusion prior."""
        return self.family is Family.DIFFUSION

    @property
    def settles(self) -> bool:
        """Whether it ends once its volume no longer changes."""
        return self.family is Family.REGULARIZED and self.may_end_early

    def load(self) -> Callable[[Any], Any]:
        """Return the function that runs it."""
        if callable(self.function):
            return self.function
        module, _, name = self.function.partition(":")
        function: Callable[[Any], Any] = getattr(import_module(module), name)
        return function

    def is_for(self, kind: str) -> bool:
        """Whether it reconstructs from a kind of measurement."""
        return kind in self.kinds or KINDS[kind].like in self.kinds


_REGISTERED: dict[str, Method] = {}
METHODS: Mapping[str, Method] = MappingProxyType(_REGISTERED)
"""All methods by name, in the order in which menus show them."""


def register(method: Method) -> Method:
    """Add a method, in place of one of the same name."""
    _REGISTERED[method.name] = method
    return method


def methods_for(kind: str) -> tuple[str, ...]:
    """Return the names of the methods that reconstruct from a kind of measurement."""
    return tuple(name for name, method in METHODS.items() if method.is_for(kind))


def tasks_for(kind: str) -> tuple[Task, ...]:
    """Return the tasks of a kind of measurement."""
    return KINDS[kind].tasks


def names_where(condition: Callable[[Method], bool]) -> tuple[str, ...]:
    """Return the names of the methods that fulfil a condition, in order."""
    return tuple(name for name, method in METHODS.items() if condition(method))


# Phases.


def _single(settings: Planned, slices: int) -> list[str]:
    return ["iteration"]


def _iterations(settings: Planned, slices: int) -> list[str]:
    return ["iteration"] * settings.iterations


def _checks(settings: Planned, slices: int) -> list[str]:
    return ["iteration"] * CHECKS


def _sampling(settings: Planned, slices: int) -> list[str]:
    """First reconstruction, and before each sampling step the adaptation that is due."""
    adapts = METHODS[settings.method].adapts
    phases = ["first reconstruction"]
    for index in range(settings.sampling.steps):
        if adapts and settings.adaptation.is_due(index):
            phases += ["adaptation"] * (slices if adapts == "slices" else 1)
        if adapts == "volume" and settings.adaptation.refine_steps:
            phases += ["refinement"] * len(range(slices)[settings.adaptation.refined])
        phases.append("sampling")
    return phases


COMMON = (
    "method",
    "preset",
    "device",
    "seed",
    "backend",
    "noise_level",
    "calibration_width",
    "virtual_coils",
    "held_out_views",
)
"""Settings that apply to every method."""
# Settings that go together.
_CONSTRAINED = ("held_out_fraction", "nonnegative", "remove_phase")
_REGULARIZED = (*_CONSTRAINED, "phase_constraint", "tv_weight")
_NETWORK = ("batch_slices",)
_UNTRAINED = (*_CONSTRAINED, *_NETWORK, "network_steps", "adapt_slices")
_SAMPLED = (
    *_REGULARIZED,
    *_NETWORK,
    "task",
    "prior",
    "adapter",
    "start_iterations",
    "steps",
    "start_t",
    "start_from",
    "eta",
    "noise_correlation",
    "guard",
)
_SOLVED = ("tv_factor", "wavelet_factor", "admm_steps", "final_admm_steps", "cg_steps", "proximal_weight")
_ADAPTED = (
    "adapt_steps",
    "adapt_every",
    "adapt_loss",
    "adapt_leave_out",
    "adapt_pattern",
    "adapt_admm_steps",
    "adapt_cg_steps",
    "adapt_biases",
    "adapt_layers",
    "learning_rate",
    "lora_rank",
    "lora_ema",
)
_OF_VOLUME = ("adapt_slices", "adapt_splits", "refine_steps", "refine_slices")

_ALL = ("sinogram", "kspace", "stack", "linear")
_IMAGES = ("stack", "linear")


def _classical(name: str, summary: str, family: Family, kinds: tuple[str, ...], *fields: str, **more: Any) -> None:
    phases = _single if family is Family.DIRECT else _iterations
    register(
        Method(
            name, summary, f"napari_d3ip.methods.classical:{more.pop('run')}", family, kinds, fields, phases, **more
        )
    )


def _untrained(name: str, summary: str, run: str, *fields: str) -> None:
    function = f"napari_d3ip.methods.untrained:{run}"
    kinds = ("sinogram", "kspace")
    every = (*_UNTRAINED, *fields)
    register(
        Method(name, summary, function, Family.UNTRAINED, kinds, every, _checks, is_random=True, may_end_early=True)
    )


def _diffusion(
    name: str, summary: str, function: str, *fields: str, adapts: str = "", uses_solver: bool = False
) -> None:
    every = (*_SAMPLED, *(_SOLVED if uses_solver else ()), *(_ADAPTED if adapts else ()), *fields)
    if adapts == "volume":
        every = (*every, *_OF_VOLUME)
    register(
        Method(
            name,
            summary,
            f"napari_d3ip.methods.{function}",
            Family.DIFFUSION,
            _ALL,
            every,
            _sampling,
            adapts=adapts,
            uses_solver=uses_solver,
            is_random=True,
        )
    )


_classical(
    "direct",
    "A stack as measured, missing voxels linear along z; back-projection of another operator.",
    Family.DIRECT,
    _IMAGES,
    run="direct",
)
_classical("fbp", "Filtered back-projection.", Family.DIRECT, ("sinogram",), run="direct")
_classical(
    "cg",
    "Least squares by conjugate gradients, stopped early.",
    Family.LEAST_SQUARES,
    ("sinogram", *_IMAGES),
    "held_out_fraction",
    "iterations",
    run="least_squares_stopped_early",
    may_end_early=True,
)
_classical("zero-filled", "Inverse Fourier transform with coils combined.", Family.DIRECT, ("kspace",), run="direct")
_classical(
    "sense",
    "Iterative SENSE: least squares with coil maps, stopped early.",
    Family.LEAST_SQUARES,
    ("kspace",),
    "held_out_fraction",
    "iterations",
    run="least_squares_stopped_early",
    may_end_early=True,
)
_classical(
    "l1-wavelet",
    "Compressed sensing with wavelets.",
    Family.REGULARIZED,
    ("kspace",),
    "held_out_fraction",
    "remove_phase",
    "wavelet_weight",
    "iterations",
    run="l1_wavelet",
    is_random=True,
)
_classical(
    "tv",
    "3D total variation.",
    Family.REGULARIZED,
    _ALL,
    *_REGULARIZED,
    "iterations",
    run="total_variation",
    may_end_early=True,
)
_classical(
    "tgv",
    "3D total generalized variation of second order.",
    Family.REGULARIZED,
    _ALL,
    *_REGULARIZED,
    "iterations",
    run="total_generalized_variation",
    may_end_early=True,
)
_classical(
    "mbir",
    "Model-based: a Markov random field of 26 neighbours (q-GGMRF).",
    Family.REGULARIZED,
    _ALL,
    *_REGULARIZED,
    "iterations",
    run="markov_field",
    may_end_early=True,
)
_untrained("dip", "Deep image prior: an untrained network fitted to the data.", "dip")
_untrained("dip-tv", "Deep image prior with total variation.", "dip_tv", "tv_weight")
_untrained("self-diffusion", "Self-diffusion: an untrained denoiser fitted to the data.", "self_diffusion")
_diffusion(
    "dds", "Decomposed diffusion sampling, without adaptation.", "dds:dds", "planes", "coupling", uses_solver=True
)
_diffusion("ddnm", "Null-space diffusion sampling.", "dds:ddnm", "planes")
_diffusion("diffpir", "Plug-and-play diffusion sampling.", "dds:diffpir", "planes")
_diffusion("dps", "Diffusion posterior sampling.", "dds:dps", "guidance")
_diffusion(
    "scd", "Steerable conditional diffusion.", "d3ip:scd", "planes", "coupling", adapts="slices", uses_solver=True
)
_diffusion(
    "ddip",
    "Deep diffusion image prior, adapted to every slice.",
    "d3ip:ddip",
    "planes",
    "coupling",
    adapts="slices",
    uses_solver=True,
)
_diffusion(
    "d3ip",
    "Deep diffusion image prior for volumes: one set of adapters.",
    "d3ip:d3ip",
    "planes",
    "coupling",
    adapts="volume",
    uses_solver=True,
)
_diffusion(
    "d3ip-mbir",
    "D3IP with total variation along z inside data consistency.",
    "d3ip:d3ip_mbir",
    "planes",
    adapts="volume",
    uses_solver=True,
)
_diffusion(
    "d3ip-meta",
    "D3IP whose adapters are meta-learned over groups of slices (Reptile).",
    "d3ip:d3ip_meta",
    "planes",
    "coupling",
    "meta_groups",
    "meta_rate",
    adapts="volume",
    uses_solver=True,
)
