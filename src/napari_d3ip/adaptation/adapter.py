"""Low-rank adapters of a prior, with their optimizer."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.adaptation.saved import SavedAdapter, load_adapter, lora_names
from napari_d3ip.errors import D3IPError, PriorError
from napari_d3ip.prior.network import BUILDING, DiffusionPrior
from napari_d3ip.settings import RunSettings

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
    """State of an adapter: what training changes, whether validation accepted it, and whether it goes on."""

    parameters: list[Tensor]
    average: list[Tensor]
    optimizer: dict[str, Any]
    accepted: bool = True
    ended: bool = False


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
        self.accepted, self.ended = True, False

    @classmethod
    def create(cls, prior: DiffusionPrior, settings: RunSettings) -> Adapter:
        """Put adapters into a prior as the settings say, from saved weights if they name some.

        Raises
        ------
        PriorError
            If the saved ones cannot be read or do not fit the prior.
        """
        adapter = cls(
            prior,
            rank=settings.adaptation.rank,
            learning_rate=settings.adaptation.learning_rate,
            average_decay=settings.adaptation.ema,
            biases=settings.adaptation.biases,
            seed=settings.seed,
            layers=settings.adaptation.layers,
        )
        if settings.adaptation.adapter is not None:
            adapter.start_from(load_adapter(settings.adaptation.adapter))
        return adapter

    @torch.no_grad()
    def start_from(self, saved: SavedAdapter) -> None:
        """Begin with saved weights; a rejected adaptation still falls back on the pretrained prior.

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
        """Merge the adapters into the prior's weights for good."""
        for layer in self.layers:
            layer.merge()

    def step(self, loss: Tensor) -> None:
        """Take one optimizer step on ``loss``, and update the moving average."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._average, [p.detach() for p in self.parameters], 1 - self.decay)

    def weights(self) -> list[Tensor]:
        """Return a copy of the trained weights and of their moving average."""
        return [weight.detach().clone() for weight in (*self.parameters, *self._average)]

    @torch.no_grad()
    def interpolate(self, weights: list[Tensor], rate: float) -> None:
        """Keep only ``rate`` of the way that `weights` went since: the outer step of Reptile."""
        for weight, before in zip((*self.parameters, *self._average), weights, strict=True):
            weight.copy_(torch.lerp(before, weight, rate))

    def state(self) -> AdapterState:
        """Return a copy of parameters, moving average and optimizer."""
        return AdapterState(
            [parameter.detach().clone() for parameter in self.parameters],
            [average.clone() for average in self._average],
            _copied(self._optimizer.state_dict()),
            self.accepted,
            self.ended,
        )

    def has_moved(self, before: AdapterState) -> bool:
        """Return whether the moving average differs from that of a `state`."""
        return not all(torch.equal(*pair) for pair in zip(self._average, before.average, strict=True))

    def load(self, state: AdapterState) -> None:
        """Restore a `state`."""
        self._write(state.parameters)
        self._average = [average.clone() for average in state.average]
        self._optimizer.load_state_dict(_copied(state.optimizer))
        self.accepted, self.ended = state.accepted, state.ended

    @contextmanager
    def in_use(self, *, accepted: bool | None = None) -> Iterator[None]:
        """Give the network the weights to sample with: the average, or the pretrained ones where it was rejected.

        The adapters are merged into the layers meanwhile, so that sampling costs what it does without them.

        Parameters
        ----------
        accepted : bool, optional
            Overrides the outcome of the acceptance test.
        """
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self._write(self._average if (self.accepted if accepted is None else accepted) else self._initial)
        for layer in self.layers:
            layer.merge()
        try:
            yield
        finally:
            for layer, weight in zip(self.layers, self._base, strict=True):
                layer.merged_adapters.clear()  # Subtracting them again would leave rounding errors.
                layer.get_base_layer().weight.data.copy_(weight)
            self._write(trained)

    @torch.no_grad()
    def _write(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    @torch.no_grad()
    def shift(self) -> float:
        """Return the relative change of the adapted layers' weights in use, ``|dW| / |W|``."""
        moved = base = 0.0
        for layer, weight in zip(self.layers, self._base, strict=True):
            moved += float(layer.get_delta_weight("default").square().sum())
            base += float(weight.square().sum())
        return float((moved / base) ** 0.5)


def _copied(optimizer: dict[str, Any]) -> dict[str, Any]:
    """Copy an optimizer's state with its tensors, which alone change in place."""
    parameters = {
        index: {name: moment.clone() for name, moment in moments.items()}
        for index, moments in optimizer["state"].items()
    }
    return {**optimizer, "state": parameters}


def _lora_config(rank: int, layers: str) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=_TARGETS[layers])


def saved_adapter(
    prior: DiffusionPrior, state: AdapterState, layers: str, about: dict[str, Any]
) -> SavedAdapter | None:
    """Return the adapters of a run as an object to keep.

    None where validation rejected them, and where biases were trained, which are no part of a LoRA.
    """
    names = list(lora_names(prior).values())
    if not state.accepted or len(names) != len(state.average):
        return None
    config = {**_lora_config(len(state.average[0]), layers).to_dict(), "target_modules": _TARGETS[layers]}
    weights = [average.to("cpu", copy=True) for average in state.average]
    return SavedAdapter(config, dict(zip(names, weights, strict=True)), about)
