"""Adaptation of the prior to the scan at hand: LoRA on a fidelity loss over a few Monte Carlo slices.

Chung & Ye, ECCV 2024, sections 3.2 (DDIP) and 3.3 (D3IP). Knows operators, solvers and the prior; nothing of sampling.
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.adaptation.equivariance import Rescans, rescan
from napari_d3ip.adaptation.saved import SavedAdapter, load_adapter, lora_names
from napari_d3ip.adaptation.splitting import Split, Splits
from napari_d3ip.errors import D3IPError, PriorError
from napari_d3ip.prior.network import BUILDING, DiffusionPrior, correlated_noise, white_noise
from napari_d3ip.settings import VOLUME_METHODS, Settings
from napari_d3ip.solvers.problem import Problem, draw_slices

# Slices that judge a round of adaptation: a fixed number, so that its cost does not grow with the volume.
_GUARD_SLICES = 8
# Range of scales, and largest height and width in pixels, of what `scale_loss` looks at.
_SCALES, _PATCH = (0.5, 0.8), 128
# Weight of the data's residual (in noise variances) beside the denoising loss.
_FIDELITY_IN_BOTH = 0.3
# A problem, x_t of its slices, and the mask of the rays or samples that are asked for.
Question = tuple[Problem, Tensor, Tensor]
# Convolutions that change the resolution are left out; residual blocks that do are not.
_TARGETS = {
    "all": (
        r".*(resnets|attentions|(down|up)samplers)\."
        r".*(conv1|conv2|conv_shortcut|time_emb_proj|to_q|to_k|to_v|to_out\.0)"
    ),
    "attention": r".*attentions\..*(to_q|to_k|to_v|to_out\.0)",
    "residual": r".*(resnets|(down|up)samplers)\..*(conv1|conv2|conv_shortcut|time_emb_proj)",
}


@dataclass
class AdapterState:
    """Everything of an adapter that training changes, and whether held-out rays speak for using it."""

    parameters: list[Tensor]
    average: list[Tensor]
    optimizer: dict[str, Any]
    accepted: bool = True


class Adapter:
    """Low-rank adapters (Hu et al. 2022) in the residual and attention blocks of a prior, with their optimizer.

    One AdamW optimizer serves the whole run and there is no dropout. Sampling uses a moving average of the weights
    that are trained (`in_use`); the prior's own weights never change.

    Parameters
    ----------
    prior : DiffusionPrior
        The adapters are put into its network, once.
    rank : int
        Rank of every adapter.
    learning_rate : float
        Of AdamW.
    average_decay : float
        Decay of the moving average; 0 uses the trained weights themselves.
    biases : bool
        Train the biases of the adapted layers too, as the paper's code does.
    seed : int
        Seed of the adapters' random factor.
    layers : str
        ``"all"``, or the layers of ``"attention"`` or ``"residual"`` blocks only.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        *,
        rank: int,
        learning_rate: float,
        average_decay: float = 0.0,
        biases: bool = False,
        seed: int = 0,
        layers: str = "all",
    ) -> None:
        from peft import inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        if not any(re.fullmatch(_TARGETS[layers], name) for name, _ in prior.unet.named_modules()):
            blocks = "residual or attention" if layers == "all" else layers
            raise D3IPError(f"prior: the network has no {blocks} blocks to adapt; use method dds with it.")
        config = _lora_config(rank, layers)
        with BUILDING, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(seed)
            inject_adapter_in_model(config, prior.unet)
        self.layers = [module for module in prior.unet.modules() if isinstance(module, LoraLayer)]
        for name, parameter in prior.unet.named_parameters():
            is_bias = name.endswith("base_layer.bias")
            parameter.requires_grad_("lora_" in name or (biases and is_bias))
        prior.eval()
        self.parameters = [parameter for parameter in prior.unet.parameters() if parameter.requires_grad]
        tensors = dict(prior.unet.named_parameters())
        self._factors = {saved: tensors[name] for name, saved in lora_names(prior).items()}
        self.decay = average_decay
        self._optimizer = torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=0.0)
        self._initial = [parameter.detach().clone() for parameter in self.parameters]
        self._average = [parameter.clone() for parameter in self._initial]
        self._base = [layer.get_base_layer().weight.detach().clone() for layer in self.layers]
        self.accepted = True

    @classmethod
    def of(cls, prior: DiffusionPrior, settings: Settings) -> Adapter:
        """Adapter as the settings say, from saved weights if they name some.

        Raises
        ------
        PriorError
            If the saved ones cannot be read or do not fit the prior.
        """
        adapter = cls(
            prior,
            rank=settings.lora_rank,
            learning_rate=settings.learning_rate or 0.0,
            average_decay=settings.lora_ema,
            biases=settings.adapt_biases,
            seed=settings.seed,
            layers=settings.adapt_layers,
        )
        if settings.adapter is not None:
            adapter.start_from(load_adapter(settings.adapter))
        return adapter

    @torch.no_grad()
    def start_from(self, saved: SavedAdapter) -> None:
        """Begin with saved weights; the bare prior stays what a rejected adaptation falls back on.

        Raises
        ------
        PriorError
            If they are of another network or rank.
        """
        shapes = {name: factor.shape for name, factor in self._factors.items()}
        if {name: weight.shape for name, weight in saved.weights.items()} != shapes:
            raise PriorError("adapter: the saved adapters are of another network or rank; choose their own prior.")
        for name, factor in self._factors.items():
            factor.copy_(saved.weights[name])
        self._average = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def merge(self) -> None:
        """Put the adapters into the prior's weights for good."""
        for layer in self.layers:
            layer.merge()

    def step(self, loss: Tensor) -> None:
        """One optimizer step on ``loss``, and one of the moving average."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._average, [p.detach() for p in self.parameters], 1 - self.decay)

    def weights(self) -> list[Tensor]:
        """Copy of what is trained, and of its moving average."""
        return [weight.detach().clone() for weight in (*self.parameters, *self._average)]

    @torch.no_grad()
    def draw_back(self, weights: list[Tensor], rate: float) -> None:
        """Keep only ``rate`` of the way that `weights` went since: the outer step of Reptile."""
        for weight, before in zip((*self.parameters, *self._average), weights, strict=True):
            weight.copy_(torch.lerp(before, weight, rate))

    def state(self) -> AdapterState:
        """Copy of parameters, moving average and optimizer."""
        return AdapterState(
            [parameter.detach().clone() for parameter in self.parameters],
            [average.clone() for average in self._average],
            copy.deepcopy(self._optimizer.state_dict()),
            self.accepted,
        )

    def has_moved(self, before: AdapterState) -> bool:
        """Whether the moving average is another than in a `state`."""
        return not all(torch.equal(*pair) for pair in zip(self._average, before.average, strict=True))

    def load(self, state: AdapterState) -> None:
        """Put a `state` back."""
        self._write(state.parameters)
        self._average = [average.clone() for average in state.average]
        self._optimizer.load_state_dict(copy.deepcopy(state.optimizer))
        self.accepted = state.accepted

    @contextmanager
    def in_use(self, *, accepted: bool | None = None) -> Iterator[None]:
        """Inside, the network has the weights to sample with: the average, or the bare prior where it was rejected.

        The adapters are merged into the layers meanwhile, so that sampling costs what it does without them.

        Parameters
        ----------
        accepted : bool, optional
            Overrides the verdict of the guard.
        """
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self._write(self._average if (self.accepted if accepted is None else accepted) else self._initial)
        for layer in self.layers:
            layer.merge()
        try:
            yield
        finally:
            for layer, weight in zip(self.layers, self._base, strict=True):
                layer.unmerge()
                layer.get_base_layer().weight.data.copy_(weight)  # Subtracting again would leave rounding errors.
            self._write(trained)

    @torch.no_grad()
    def _write(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    @torch.no_grad()
    def shift(self) -> float:
        """How far the weights in use are from the prior: ``|dW| / |W|`` over the adapted layers."""
        moved = base = 0.0
        for layer, weight in zip(self.layers, self._base, strict=True):
            moved += float(layer.get_delta_weight("default").square().sum())
            base += float(weight.square().sum())
        return float((moved / base) ** 0.5)


def _lora_config(rank: int, layers: str) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=_TARGETS[layers])


def saved_adapter(
    prior: DiffusionPrior, state: AdapterState, layers: str, about: dict[str, Any]
) -> SavedAdapter | None:
    """Adapters of a run as an object to keep; None where held-out rays spoke against them.

    Also None where biases were trained, which are no part of a LoRA.
    """
    names = list(lora_names(prior).values())
    if not state.accepted or len(names) != len(state.average):
        return None
    config = {**_lora_config(len(state.average[0]), layers).to_dict(), "target_modules": _TARGETS[layers]}
    weights = [average.to("cpu", copy=True) for average in state.average]
    return SavedAdapter(config, dict(zip(names, weights, strict=True)), about)


@dataclass(frozen=True)
class Fit:
    """Outcome of one round of adaptation.

    Parameters
    ----------
    loss : float
        Mean adaptation loss of the round: with ``adapt_loss="fidelity"`` in units of the noise variance, else wholly
        or in part the mean squared error of the noise that the network sees.
    held_out, held_out_without : float or None
        Loss on the held-out rays of some slices with the adapters and with the bare prior; None without guard.
    shift : float
        `Adapter.shift` of the averaged weights.
    accepted : bool
        Whether sampling uses the adapters.
    """

    loss: float
    held_out: float | None
    held_out_without: float | None
    shift: float
    accepted: bool


def tweedie_estimate(prior: DiffusionPrior, x_t: Tensor, t: int) -> Tensor:
    """``x0_theta(x_t)`` of slices (z, y, x) (equation 4)."""
    return prior.tweedie(x_t, prior.epsilon(x_t[:, None], t)[:, 0], t)


def consistent_estimate(
    problem: Problem, prior: DiffusionPrior, x_t: Tensor, t: int, admm_steps: int, cg_steps: int
) -> Tensor:
    """``DC(x0_theta(x_t))``: denoise, then a few iterations of data consistency."""
    denoised = tweedie_estimate(prior, x_t, t)
    return problem.make_consistent(denoised, admm_steps, cg_steps)[0]


def _left_out(problem: Problem, rays: Tensor, generator: torch.Generator) -> tuple[Problem, Tensor]:
    """The problem without some views or lines, and those of ``rays`` in them; all of both if none is left out."""
    fraction = problem.settings.adapt_leave_out
    if not (fraction and problem.groups):
        return problem, rays
    run = problem.leave_out(fraction, generator)
    return replace(problem, used=problem.used * (1 - run)), rays * run


def coarser(volume: Tensor, scale: float) -> Tensor:
    """Volume (z, y, x), real or complex, resampled to ``scale`` < 1 of its size along all axes, without aliasing."""
    if volume.is_complex():
        return torch.complex(coarser(volume.real, scale), coarser(volume.imag, scale))
    z, y, x = (max(1, round(scale * length)) for length in volume.shape)
    plane = F.interpolate(volume[None], size=(y, x), mode="bilinear", antialias=True)[0]
    along_z = F.interpolate(plane.movedim(0, 1)[None], size=(z, x), mode="bilinear", antialias=True)[0]
    return along_z.movedim(1, 0)


def scale_loss(problem: Problem, prior: DiffusionPrior, volume: Tensor, generator: torch.Generator) -> Tensor:
    """Denoising loss (Ho et al. 2020, eq. 14) on about K slices of the volume itself, seen at a coarser scale.

    What a scan leaves uncertain is fine; at half the resolution the reconstruction is nearly right. Structure that
    recurs across scales (internal learning, Shocher et al., CVPR 2018) then teaches the prior the scan's own textures
    and edges. At full scale the network would learn the reconstruction's errors instead. Times are those at which
    sampling happens, and as many above. Slices lie along the axes that sampling denoises.
    """
    settings = problem.settings
    low, high = _SCALES
    scale = low + (high - low) * float(torch.rand(1, generator=generator, dtype=torch.float32))
    axis = _draw_axis(settings, generator)
    across = volume.movedim(axis, 0)
    as_many_pixels = _patch_pixels(volume, scale) / _patch_pixels(across, scale)
    index = draw_slices(len(across), math.ceil(settings.adapt_slices / scale * as_many_pixels), True, generator)
    clean = coarser(across[index], scale)
    for axis in (1, 2):
        first = int(torch.randint(max(1, clean.shape[axis] - _PATCH + 1), (1,), generator=generator))
        clean = clean.narrow(axis, first, min(_PATCH, clean.shape[axis]))
        if torch.rand(1, generator=generator, dtype=torch.float32) < 0.5:
            clean = clean.flip(axis)
    if torch.rand(1, generator=generator, dtype=torch.float32) < 0.5:
        clean = clean.transpose(1, 2)
    latest = min(2 * (settings.start_t or 1), prior.train_steps - 1)
    t = 1 + int(torch.randint(latest, (1,), generator=generator))
    noise = white_noise(clean, generator)
    return _denoising_loss(prior, prior.noised(clean, noise, t), noise, t)


def _draw_axis(settings: Settings, generator: torch.Generator) -> int:
    """Any of the axes that sampling uses the adapters along: all where one set is for the whole volume.

    Who has learnt from axial slices alone draws haze into coronal and sagittal ones that are empty.
    """
    is_shared = settings.method in VOLUME_METHODS and settings.adapt_groups == 1
    return int(torch.randint(3 if settings.planes == "all" and is_shared else 1, (1,), generator=generator))


def _patch_pixels(volume: Tensor, scale: float) -> float:
    """Pixels of what `scale_loss` looks at of a slice of a volume (z, y, x)."""
    return math.prod(min(_PATCH, scale * length) for length in volume.shape[1:])


def _denoising_loss(prior: DiffusionPrior, x_t: Tensor, noise: Tensor, t: int) -> Tensor:
    """Mean squared difference of the noise that the network sees in slices (z, y, x) and the noise that is there."""
    difference = prior.epsilon(x_t[:, None], t)[:, 0] - noise
    return (difference * difference.conj()).real.mean()


def adapt(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    x_t: Tensor,
    volume: Tensor,
    t: int,
    generator: torch.Generator,
    splits: Splits | None = None,
) -> Fit:
    """L optimizer steps at time t, each on K slices drawn anew (D3IP, algorithm 2; DDIP where there is one slice).

    The loss is that of the data (`split_loss` where there are splits, else `fidelity_loss`), with
    ``adapt_loss="scales"`` the `scale_loss` of the volume so far, or both, with ``"equivariance"`` the
    `equivariance_loss` of slices of it that are scanned anew.

    The cost does not depend on the number of slices. With ``settings.guard``, rays that nothing has fitted decide
    whether the adapters are used: what is hidden of splits that no step has learnt from, or else the held-out rays of
    some slices (with ``adapt_leave_out`` those in views or lines left out as in the loss). Where the adapters do not
    predict them better than the bare prior does, the round is undone.

    Raises
    ------
    D3IPError
        If the round did not move the adapters: the network would be adapted in name only.
    """
    before = adapter.state()
    learning, judging = _roles(splits)
    losses = _fit(problem, prior, adapter, x_t, volume, t, generator, learning)
    return _judged(problem, prior, adapter, before, losses, x_t, t, generator, judging)


def adapt_by_reptile(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    x_t: Tensor,
    volume: Tensor,
    t: int,
    generator: torch.Generator,
    rate: float,
    splits: Splits | None = None,
) -> Fit:
    """L steps on each group of adjacent slices in turn, ``phi <- phi + rate (phi' - phi)`` after each.

    The outer loop of Meta-D3IP (Chung & Ye 2024, section 3.3; Reptile, Nichol et al. 2018). The volume is cut into
    ``settings.meta_groups`` groups, so the cost does not depend on the number of slices. With one group and a rate of
    1 it is `adapt`. A group learns from the splits that begin in it, or from all where none does.

    Raises
    ------
    D3IPError
        As `adapt`.
    """
    before, losses = adapter.state(), []
    learning, judging = _roles(splits)
    for group in torch.arange(len(x_t)).tensor_split(min(problem.settings.meta_groups, len(x_t))):
        weights = adapter.weights()
        own = [split for split in learning if group[0] <= split.index[0] <= group[-1]]
        losses += _fit(
            problem.of_slices(group), prior, adapter, x_t[group], volume[group], t, generator, own or learning
        )
        adapter.draw_back(weights, rate)
    return _judged(problem, prior, adapter, before, losses, x_t, t, generator, judging)


def _roles(splits: Splits | None) -> tuple[list[Split], list[Split]]:
    """Splits to learn from, and to judge by."""
    return ([], []) if splits is None else (splits.learning, splits.judging)


def _fit(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    x_t: Tensor,
    volume: Tensor,
    t: int,
    generator: torch.Generator,
    splits: Sequence[Split],
) -> list[float]:
    """Losses of L optimizer steps."""
    losses = []
    kind = problem.settings.adapt_loss
    rescans = rescan(problem, volume, generator) if kind == "equivariance" else None
    for _ in range(problem.settings.adapt_steps or 1):
        problem.check()
        terms = []
        if rescans is not None:
            terms.append(equivariance_loss(problem, prior, rescans, t, generator))
        if kind in ("fidelity", "both"):
            fidelity = (
                split_loss(problem, prior, splits, t, generator)
                if splits
                else fidelity_loss(problem, prior, x_t, t, generator)
            )
            terms.append(_FIDELITY_IN_BOTH * fidelity if kind == "both" else fidelity)
        if kind in ("scales", "both"):
            terms.append(scale_loss(problem, prior, volume, generator))
        loss = torch.stack(terms).sum()
        adapter.step(loss)
        losses.append(float(loss.detach()))
    return losses


def fidelity_loss(problem: Problem, prior: DiffusionPrior, x_t: Tensor, t: int, generator: torch.Generator) -> Tensor:
    """``|y - A DC(x0_theta(x_t))|^2`` of K slices (equation 8), in units of the noise variance.

    With ``settings.adapt_leave_out`` on views or lines, drawn anew, that data consistency does not see.
    """
    settings = problem.settings
    index = draw_slices(len(x_t), settings.adapt_slices, settings.coupling != "none", generator)
    part = problem.of_slices(index)
    part, target = _left_out(part, part.used, generator)
    estimate = consistent_estimate(
        part, prior, x_t[index], t, settings.adapt_admm_steps or 1, settings.adapt_cg_steps or 1
    )
    return part.residual(estimate, target)


def split_loss(
    problem: Problem, prior: DiffusionPrior, splits: Sequence[Split], t: int, generator: torch.Generator
) -> Tensor:
    """``|y - A DC(x0_theta(x_t))|^2`` on what is hidden of K slices of a split, whose x_t has not seen it either.

    The network learns to fill in what a scan leaves open from what it leaves to be seen, and is asked just what
    sampling asks of it later. Were x_t made of the volume itself, which has seen everything, the answer would stand in
    the question.
    """
    settings = problem.settings
    split = splits[int(torch.randint(len(splits), (1,), generator=generator))].some(settings.adapt_slices, generator)
    x_t = noised_split(split, prior, t, settings.noise_correlation or 0.0, generator)
    # Interleaved views are hidden all round as it is.
    if settings.adapt_pattern == "interleaved":
        denoised = tweedie_estimate(prior, x_t, t)
    else:
        denoised = estimate_as_turned(prior, x_t, t, generator)
    estimate = split.seen.make_consistent(denoised, settings.adapt_admm_steps or 1, settings.adapt_cg_steps or 1)[0]
    return split.seen.residual(estimate, split.question)


def equivariance_loss(
    problem: Problem, prior: DiffusionPrior, rescans: Rescans, t: int, generator: torch.Generator
) -> Tensor:
    """Denoising loss (Ho et al. 2020, eq. 14) on K turned slices whose x_t is made of what a scan leaves of them.

    The network is to see not only the noise that was added, but also what the scanner and total variation did to a
    slice: the "noise" that leads from the truth to x_t (equivariant imaging, Chen et al., ICCV 2021, eq. 8). Where
    sampling denoises slices along all axes, so does this, as many pixels of any.
    """
    settings = problem.settings
    number = int(torch.randint(len(rescans.truth), (1,), generator=generator))
    axis = _draw_axis(settings, generator)
    truth, volume = (runs[number].movedim(axis, 0) for runs in (rescans.truth, rescans.volume))
    count = math.ceil(settings.adapt_slices * len(truth) / len(rescans.truth[number]))
    at = draw_slices(len(truth), count, True, generator)
    truth, volume = truth[at], volume[at]
    correlation = (settings.noise_correlation or 0.0) if axis == 0 else 0.0
    x_t = prior.noised(volume, correlated_noise(volume, correlation, generator), t)
    return _denoising_loss(prior, x_t, prior.noise_between(truth, x_t, t), t)


def estimate_as_turned(prior: DiffusionPrior, x_t: Tensor, t: int, generator: torch.Generator) -> Tensor:
    """Tweedie estimate of slices that the network sees turned by a random quarter, half or none, or mirrored.

    What is hidden lies among the directions that were measured; turned, it is also where no direction was. An object
    is as likely one way round as the other, so what fills in the former fills in the latter (equivariant imaging, Chen
    et al., ICCV 2021).
    """
    quarters, mirrored = (
        int(torch.randint(4, (1,), generator=generator)),
        bool(torch.randint(2, (1,), generator=generator)),
    )
    turned = torch.rot90(x_t.flip(2) if mirrored else x_t, quarters, (1, 2))
    denoised = torch.rot90(tweedie_estimate(prior, turned, t), -quarters, (1, 2))
    return denoised.flip(2) if mirrored else denoised


def noised_split(
    split: Split | Splits, prior: DiffusionPrior, t: int, correlation: float, generator: torch.Generator
) -> Tensor:
    """x_t of what splits are so far, with noise drawn anew."""
    return prior.noised(split.volume, correlated_noise(split.volume, correlation, generator), t)


def _judged(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    before: AdapterState,
    losses: list[float],
    x_t: Tensor,
    t: int,
    generator: torch.Generator,
    judges: Sequence[Split],
) -> Fit:
    """Outcome of a round that began with ``before``, which rays that nothing has fitted may bring back."""
    settings = problem.settings
    with adapter.in_use(accepted=True):
        shift = adapter.shift()
    if shift == 0.0 or not adapter.has_moved(before):
        raise D3IPError("learning_rate: adaptation left the network unchanged; raise it, or use method dds.")

    adapter.accepted = True
    held_out = held_out_without = None
    if settings.guard and (judges or bool(problem.held_out.any())):
        questions = (
            _of_splits(judges, prior, t, settings, generator) if judges else _of_held_out_rays(problem, x_t, generator)
        )
        with torch.no_grad():
            verdicts = []
            for accepted in (True, False):
                with adapter.in_use(accepted=accepted):
                    residuals = [
                        part.residual(
                            consistent_estimate(part, prior, noisy, t, settings.admm_steps, settings.cg_steps), mask
                        )
                        for part, noisy, mask in questions
                    ]
                verdicts.append(float(torch.stack(residuals).mean()))
        held_out, held_out_without = verdicts
        # Not the other way round: a loss that is not a number is no gain.
        if not held_out < held_out_without:
            adapter.load(before)
            adapter.accepted = False
    return Fit(sum(losses) / len(losses), held_out, held_out_without, shift, adapter.accepted)


def _of_splits(
    judges: Sequence[Split], prior: DiffusionPrior, t: int, settings: Settings, generator: torch.Generator
) -> list[Question]:
    """What is hidden of splits."""
    return [
        (split.seen, noised_split(split, prior, t, settings.noise_correlation or 0.0, generator), split.question)
        for split in judges
    ]


def _of_held_out_rays(problem: Problem, x_t: Tensor, generator: torch.Generator) -> list[Question]:
    """The held-out rays of some slices."""
    index = draw_slices(len(x_t), _GUARD_SLICES, problem.settings.coupling != "none", generator)
    part = problem.of_slices(index)
    part, judged = _left_out(part, part.held_out, generator)
    return [(part, x_t[index], judged)]
