"""Adapters of a prior as objects: PEFT folders that later scans can start from, and their mean.

Knows files and networks, nothing of how adapters are trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.adaptation.folders import ABOUT_NAME, CONFIG_NAME, WEIGHTS_NAME, describe_adapter, no_adapter
from napari_d3ip.device import is_out_of_memory
from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.guard import one_line
from napari_d3ip.prior.checks import check_tensors
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.records import DIGEST, digest_of_files
from napari_d3ip.settings import MOST_RANK

# Where a PeftModel looks for the weights of the network that it wraps.
_PREFIX = "base_model.model."
# What PEFT takes where a configuration does not say.
_PEFT_ALPHA, _LARGEST_ALPHA = 8, 1e6
_SPECIAL = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True)
class SavedAdapter:
    """Low-rank adapters (Hu et al. 2022) of a prior, apart from it.

    Parameters
    ----------
    config : dict
        PEFT's configuration: rank ``r``, ``lora_alpha``, ``target_modules``.
    weights : dict of str to Tensor
        Factors by their name in PEFT's files, float32; the change of a layer is their product (``lora_alpha = r``).
    about : dict
        Where it comes from: prior, settings, scan; JSON values only.
    """

    config: dict[str, Any] = field(repr=False)
    weights: dict[str, Tensor] = field(repr=False)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Rank of every adapter."""
        return int(self.config["r"])

    def save(self, folder: str | Path) -> None:
        """Write a folder that `peft.PeftModel.from_pretrained` loads too; safetensors and JSON.

        Raises
        ------
        PriorError
            If the folder cannot be written, or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        folder = Path(folder)
        check_folder(folder)
        tensors = {_PREFIX + name: weight.contiguous() for name, weight in self.weights.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / WEIGHTS_NAME) as part:  # The others are moved along.
                save_file(tensors, part)
                part.with_name(CONFIG_NAME).write_text(json.dumps(self.config, indent=2) + "\n")
                about = {**self.about, DIGEST: digest_of_files([part])}
                part.with_name(ABOUT_NAME).write_text(json.dumps(about, indent=2) + "\n")
        except OSError as error:
            raise PriorError(f"adapter: {folder} cannot be written ({error.strerror}); choose another.") from error
        except (FileError, SafetensorError) as error:
            raise PriorError(f"adapter: {one_line(error)}") from error


def check_folder(folder: Path) -> None:
    """Refuse a place that holds something else than adapters.

    Raises
    ------
    PriorError
        If it does.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG_NAME).exists()):
        raise PriorError(f"adapter: {folder} holds something else; choose a new folder.")


def lora_names(prior: DiffusionPrior) -> dict[str, str]:
    """Name in PEFT's files of every factor by its name in the network, in the network's order."""
    names = [name for name, _ in prior.unet.named_parameters() if ".lora_" in name]
    return {name: name.replace(".default.", ".") for name in names}


def load_adapter(folder: str | Path) -> SavedAdapter:
    """Read a folder written by `SavedAdapter.save`, or by PEFT for a network of the same layout.

    Raises
    ------
    PriorError
        If there is none, or it is no LoRA, or one of a kind that is more than two factors for each layer.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    config, about = describe_adapter(folder)
    special = [name for name in _SPECIAL if config.get(name)]
    if special:
        raise PriorError(f"adapter: {folder} has {', '.join(special)}, which is not supported; save a plain LoRA.")
    alpha = config.get("lora_alpha", _PEFT_ALPHA)
    try:
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= _LARGEST_ALPHA:
            raise ValueError(f"lora_alpha must be above 0 to {_LARGEST_ALPHA:g}, got {alpha!r}")
        weights = load_file(folder / WEIGHTS_NAME)
        check_tensors(weights)
        _check_factors(weights, config["r"])
        if about.pop(DIGEST, None) not in (None, digest_of_files([folder / WEIGHTS_NAME])):
            raise ValueError(f"its weights are damaged or were changed, their digest is not the one in {ABOUT_NAME}")
    except Exception as error:  # Of whatever the files hold.
        if is_out_of_memory(error):
            raise
        raise no_adapter(folder, error) from error
    scale = alpha / config["r"]
    factors = {
        name.removeprefix(_PREFIX): weight.float() * (scale if ".lora_B." in name else 1.0)
        for name, weight in weights.items()
    }
    return SavedAdapter({**config, "lora_alpha": config["r"]}, factors, about)


def _check_factors(weights: dict[str, Tensor], rank: int) -> None:
    """Refuse tensors that are not the two factors of layers; raises ValueError."""
    if not weights:
        raise ValueError(f"{WEIGHTS_NAME} is empty")
    for name, weight in weights.items():
        axis = 0 if ".lora_A." in name else 1 if ".lora_B." in name else None
        if axis is None:
            raise ValueError(f"{name} is no factor of a layer")
        if weight.ndim < 2 or weight.shape[axis] != rank:
            raise ValueError(f"{name} of shape {tuple(weight.shape)} is no factor of rank {rank}")


def average_adapters(adapters: Sequence[SavedAdapter]) -> SavedAdapter:
    """Adapters whose change of the weights is the mean of those of ``adapters``, exactly.

    The change is the product of two factors, which cannot be averaged one by one; stacking them gives the mean change
    with the sum of the ranks.

    Raises
    ------
    PriorError
        If they are not of the same network, or too many.
    """
    first = adapters[0]
    if any(adapter.weights.keys() != first.weights.keys() for adapter in adapters):
        raise PriorError("adapter: the adapters are of different networks; average those of one prior.")
    rank = sum(adapter.rank for adapter in adapters)
    if rank > MOST_RANK:
        raise PriorError(f"adapter: the ranks add up to {rank}, more than {MOST_RANK}; average fewer.")
    weights = {}
    for name in first.weights:
        parts = [adapter.weights[name] for adapter in adapters]
        is_first = ".lora_A." in name
        if len({part.shape[1:] if is_first else (part.shape[0], *part.shape[2:]) for part in parts}) > 1:
            raise PriorError(f"adapter: {name} is of another shape in some of them; average those of one prior.")
        weights[name] = torch.cat(parts, dim=0) if is_first else torch.cat(parts, dim=1) / len(adapters)
    about = {"prior": first.about.get("prior"), "average_of": [adapter.about for adapter in adapters]}
    return SavedAdapter({**first.config, "r": rank, "lora_alpha": rank}, weights, about)
