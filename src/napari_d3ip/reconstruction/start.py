"""Weights of the regularizers, and the classical reconstruction that diffusion methods start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from napari_d3ip.errors import SettingsError
from napari_d3ip.preparation import Preparation
from napari_d3ip.preparation.weights import (
    beside_wavelets,
    choose_phase_constraint,
    choose_wavelet_factor,
    choose_weight,
    choose_weight_and_phase_constraint,
)
from napari_d3ip.settings import (
    COUPLED_METHODS,
    Settings,
)
from napari_d3ip.solvers.classical import last, least_squares
from napari_d3ip.solvers.external import as_proximal_map
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Duals, Regulariser

_START_CG = 10
_DENOISER_ERROR = 0.05


def start_name(settings: Settings, kind: str) -> str:
    """Return the method that the first reconstruction is."""
    is_kspace = kind == "kspace"
    if settings.start_from == "tv":
        return "tgv" if settings.coupling == "tgv" else "tv"
    if settings.start_from == "cg":
        return "sense" if is_kspace else "cg"
    return {"sinogram": "fbp", "kspace": "zero-filled"}.get(kind, "direct")


def choose_weights(problem: Problem, settings: Settings) -> Settings:
    """Settings with the weights that were left open, chosen from the scan."""
    settings = _with_weights_of_constraints(problem, settings)
    open_wavelets = settings.wavelet_factor is None and settings.coupling == "tv3d"
    if open_wavelets and problem.operator.domain_dtype.is_complex and settings.method in COUPLED_METHODS:
        problem = replace(problem, regulariser=_first_regulariser(problem, settings))
        settings = settings.updated(wavelet_factor=choose_wavelet_factor(problem, settings.tv_weight or 0.0))
    return settings


def _with_weights_of_constraints(problem: Problem, settings: Settings) -> Settings:
    """Settings with the weights of total variation, of the phase and of closeness to the denoised image."""
    if settings.proximal_weight is None:
        settings = settings.updated(proximal_weight=proximal_weight(problem))
    wants_weight = settings.tv_weight is None and (settings.coupling != "none" or settings.start_from == "tv")
    if settings.phase_constraint is not None or not (
        settings.remove_phase and problem.operator.domain_dtype.is_complex
    ):
        settings = settings.updated(phase_constraint=settings.phase_constraint or 0.0)
        if wants_weight:
            regularised = replace(problem, regulariser=_first_regulariser(problem, settings))
            settings = settings.updated(tv_weight=choose_weight(regularised))
        return settings
    problem = replace(problem, regulariser=_first_regulariser(problem, settings))
    if wants_weight:
        weight, constraint = choose_weight_and_phase_constraint(problem)
        return settings.updated(tv_weight=weight, phase_constraint=constraint)
    return settings.updated(phase_constraint=choose_phase_constraint(problem, settings.tv_weight or 0.0))


def replace_regulariser(prepared: Preparation, part: Any, settings: Settings) -> Preparation:
    """Someone's proximal map or denoiser in place of total variation.

    Raises
    ------
    SettingsError
        If it is none, or the method has no regulariser whose part it could take.
    """
    takes_part = settings.method == "tv" or settings.method in COUPLED_METHODS
    if not takes_part or (settings.method != "tv" and settings.coupling == "none"):
        raise SettingsError(
            f"regulariser: {settings.method} with coupling {settings.coupling} has none to take the part of; use tv, "
            "or a diffusion method with another coupling."
        )
    problem = prepared.problem
    regulariser = replace(problem.regulariser, proximal_map=as_proximal_map(part))
    return replace(prepared, problem=replace(problem, regulariser=regulariser))


def _first_regulariser(problem: Problem, settings: Settings) -> Regulariser:
    """Terms beside the data in the first reconstruction."""
    return replace(
        problem.regulariser,
        weight=settings.tv_weight or 0.0,
        nonnegative=settings.nonnegative,
        imaginary_weight=settings.phase_constraint or 0.0,
        huber=settings.tv_huber,
        order=2 if settings.coupling == "tgv" else 1,
    )


def sampling_regulariser(problem: Problem, settings: Settings) -> Regulariser:
    """Return the terms beside the data in data consistency."""
    factor = 0.0 if settings.coupling == "none" else settings.tv_factor or 0.0
    regulariser = replace(
        _first_regulariser(problem, settings),
        axes=(0,) if settings.coupling == "tv-z" else (0, 1, 2),
        weight=factor * (settings.tv_weight or 0.0),
        proximal_weight=settings.proximal_weight or 0.0,
    )
    wavelets = (settings.wavelet_factor or 0.0) if settings.coupling == "tv3d" else 0.0
    return beside_wavelets(regulariser, wavelets / factor) if factor else regulariser


def proximal_weight(problem: Problem) -> float:
    """Weight of staying close to the denoised image: the noise's variance over that of the denoiser's error."""
    return (problem.noise / _DENOISER_ERROR) ** 2


def first_reconstruction(prepared: Preparation, problem: Problem) -> tuple[Tensor, Duals | None]:
    """The volume that sampling starts from, and the solver's duals where data consistency can go on with them."""
    settings = problem.settings
    if settings.start_from in ("fbp", "noise"):
        return prepared.direct(), None
    start = problem.start()
    if settings.start_from == "cg":
        measured = problem.measured * problem.used
        return last(least_squares(problem.fitted, measured, start, _START_CG, check=problem.check)), None
    volume, duals = problem.total_variation(
        start, settings.start_iterations or 1, _first_regulariser(prepared.problem, settings)
    )
    # Without them data consistency would forget the total variation it had reached and begin again.
    return volume, duals if duals is not None and duals.suit(problem.regulariser) else None
