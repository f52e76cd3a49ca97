"""Weights of the regularizers, and the classical reconstruction that diffusion methods start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from napari_d3ip.errors import SettingsError
from napari_d3ip.preparation import Preparation
from napari_d3ip.preparation.weights import (
    choose_phase_constraint,
    choose_sign,
    choose_wavelet_factor,
    choose_weight,
    choose_weight_and_phase_constraint,
    tv_iterates,
    with_wavelets,
)
from napari_d3ip.settings import RunSettings
from napari_d3ip.solvers.classical import last, least_squares, until_settled
from napari_d3ip.solvers.external import as_proximal_map
from napari_d3ip.solvers.problem import Problem, Weights
from napari_d3ip.solvers.total_variation import Duals, Regulariser

_START_CG = 10
# Record: docs/research/proximal-weight.md.
_DENOISER_ERROR = 0.05


def start_name(settings: RunSettings, kind: str) -> str:
    """Return the method that the first reconstruction is."""
    start = settings.sampling.start_from
    if start == "tv":
        return "tgv" if settings.consistency.coupling == "tgv" else "tv"
    if start == "cg":
        return "sense" if kind == "kspace" else "cg"
    return {"sinogram": "fbp", "kspace": "zero-filled"}.get(kind, "direct")


def with_sign(prepared: Preparation) -> Preparation:
    """Return the scan with the sign of its volumes decided, where it is open and the method has such a constraint."""
    problem, settings = prepared.problem, prepared.problem.settings
    if settings.given.nonnegative is not None or "nonnegative" not in settings.about.fields:
        return prepared
    nonnegative = choose_sign(problem)
    regulariser = replace(problem.regulariser, nonnegative=nonnegative)
    settings = settings.updated(nonnegative=nonnegative)
    return replace(prepared, problem=replace(problem, regulariser=regulariser, settings=settings))


def choose_weights(problem: Problem) -> Weights:
    """Return the weights of the terms beside the data: as given, else chosen from the scan."""
    settings, given = problem.settings, problem.settings.given
    proximal = proximal_weight(problem) if given.proximal_weight is None else given.proximal_weight
    tv, phase = _weights_of_tv_and_phase(problem)
    weights = Weights(tv=tv, phase=phase, proximal=proximal, wavelet_factor=given.wavelet_factor or 0.0)
    is_open = given.wavelet_factor is None and settings.consistency.coupling == "tv3d" and settings.about.uses_solver
    if is_open and problem.operator.domain_dtype.is_complex:
        regularised = replace(problem, regulariser=_first_regulariser(problem, weights))
        weights = replace(weights, wavelet_factor=choose_wavelet_factor(regularised, weights.tv))
    return weights


def found_weights(problem: Problem) -> dict[str, float]:
    """Return the weights of a run by the names of their settings, for its result."""
    settings, weights = problem.settings, problem.weights
    found = {"proximal_weight": weights.proximal, "phase_constraint": weights.phase}
    if settings.given.tv_weight is None and _wants_tv(settings):
        found["tv_weight"] = weights.tv
    is_complex = problem.operator.domain_dtype.is_complex
    if settings.consistency.coupling == "tv3d" and settings.about.uses_solver and is_complex:
        found["wavelet_factor"] = weights.wavelet_factor
    return found


def _wants_tv(settings: RunSettings) -> bool:
    return settings.consistency.coupling != "none" or settings.sampling.start_from == "tv"


def _weights_of_tv_and_phase(problem: Problem) -> tuple[float, float]:
    """Return the weights of total variation and of the imaginary part, which depend on each other."""
    settings, given = problem.settings, problem.settings.given
    is_open = given.tv_weight is None and _wants_tv(settings)
    weights = Weights(tv=given.tv_weight or 0.0, phase=given.phase_constraint or 0.0)
    regularised = replace(problem, regulariser=_first_regulariser(problem, weights))
    removes_phase = settings.coils.remove_phase and problem.operator.domain_dtype.is_complex
    if given.phase_constraint is not None or not removes_phase:
        return (choose_weight(regularised) if is_open else weights.tv), weights.phase
    if is_open:
        return choose_weight_and_phase_constraint(regularised)
    return weights.tv, choose_phase_constraint(regularised, weights.tv)


def replace_regulariser(prepared: Preparation, part: Any, settings: RunSettings) -> Preparation:
    """Put someone's proximal map or denoiser in place of total variation.

    Raises
    ------
    SettingsError
        If it is none, or the method has no regularizer to replace.
    """
    coupling = settings.consistency.coupling
    if settings.method != "tv" and (coupling == "none" or not settings.about.uses_solver):
        raise SettingsError(
            f"regulariser: {settings.method} with coupling={coupling} has no regularizer to replace; use tv, or a "
            "diffusion method with another coupling."
        )
    problem = prepared.problem
    regulariser = replace(problem.regulariser, proximal_map=as_proximal_map(part))
    return replace(prepared, problem=replace(problem, regulariser=regulariser))


def _first_regulariser(problem: Problem, weights: Weights) -> Regulariser:
    """Return the terms beside the data in the first reconstruction."""
    settings = problem.settings.consistency
    return replace(
        problem.regulariser,
        weight=weights.tv,
        imaginary_weight=weights.phase,
        form="tgv" if settings.coupling == "tgv" else "tv",
    )


def sampling_regulariser(problem: Problem, weights: Weights) -> Regulariser:
    """Return the terms beside the data in data consistency."""
    settings = problem.settings.consistency
    factor = 0.0 if settings.coupling == "none" else settings.tv_factor
    regulariser = replace(
        _first_regulariser(problem, weights),
        axes=(0,) if settings.coupling == "tv-z" else (0, 1, 2),
        weight=factor * weights.tv,
        proximal_weight=weights.proximal,
    )
    wavelets = weights.wavelet_factor if settings.coupling == "tv3d" else 0.0
    return with_wavelets(regulariser, wavelets / factor) if factor else regulariser


def proximal_weight(problem: Problem) -> float:
    """Return the weight of staying close to the denoised image: noise variance over that of the denoiser's error."""
    return (problem.noise / _DENOISER_ERROR) ** 2


def first_reconstruction(prepared: Preparation, problem: Problem) -> tuple[Tensor, Duals | None]:
    """Return the volume that sampling starts from, and the solver's duals where data consistency can go on with them.

    Parameters
    ----------
    prepared : Preparation
        The scan.
    problem : Problem
        Its problem with the weights and the regularizer of sampling.
    """
    sampling = problem.settings.sampling
    if sampling.start_from in ("fbp", "noise"):
        return prepared.direct(), None
    start = problem.start()
    if sampling.start_from == "cg":
        measured = problem.measured * problem.used
        return last(least_squares(problem.fitted, measured, start, _START_CG, check=problem.check)), None
    regulariser = _first_regulariser(prepared.problem, problem.weights)
    volume, duals = problem.total_variation(start, sampling.start_iterations, regulariser)
    # Without them data consistency would forget the total variation it had reached and begin again.
    return volume, duals if duals is not None and duals.suit(problem.regulariser) else None


def settled_start(prepared: Preparation, problem: Problem, first: Tensor, most: int) -> Tensor:
    """Return the volume that sampling started from, as a run of its own method would have returned it.

    Parameters
    ----------
    prepared, problem
        As in `first_reconstruction`.
    first : Tensor
        The volume (z, y, x).
    most : int
        Iterations of total variation at most.
    """
    if problem.settings.sampling.start_from != "tv":
        return first
    problem = replace(problem, regulariser=_first_regulariser(prepared.problem, problem.weights))
    return last(until_settled(tv_iterates(problem, problem.weights.tv, most, first), first))
