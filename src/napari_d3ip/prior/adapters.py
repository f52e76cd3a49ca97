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

from napari_d3ip.errors import PriorError
from napari_d3ip.prior.adapter_folders import ABOUT_NAME, CONFIG_NAME, WEIGHTS_NAME, describe_adapter, no_adapter
from napari_d3ip.prior.network import DiffusionPrior

# Where a PeftModel looks for the weights of the network that it wraps.
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class SavedAdapter:
    """Low-rank adapters (Hu et al. 2022) of a prior, apart from it.

    Parameters
    ----------
    config : dict
        PEFT's configuration: rank ``r``, ``lora_alpha``, ``target_modules``.
    weights : dict of str to Tensor
        Factors by their name in PEFT's files, float32.
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
        from safetensors.torch import save_file

        folder = Path(folder)
        check_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file({_PREFIX + name: weight.contiguous() for name, weight in self.weights.items()},
                      folder / WEIGHTS_NAME)  # fmt: skip
            (folder / CONFIG_NAME).write_text(json.dumps(self.config, indent=2) + "\n")
            (folder / ABOUT_NAME).write_text(json.dumps(self.about, indent=2) + "\n")
        except OSError as error:
            raise PriorError(f"adapter: {folder} cannot be written ({error.strerror}); choose another.") from error


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
        If there is none, or it is no LoRA.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    config, about = describe_adapter(folder)
    try:
        weights = load_file(folder / WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise no_adapter(folder, error) from error
    return SavedAdapter(config, {name.removeprefix(_PREFIX): w.float() for name, w in weights.items()}, about)


def average_adapters(adapters: Sequence[SavedAdapter]) -> SavedAdapter:
    """Adapters whose change of the weights is the mean of those of ``adapters``, exactly.

    The change is the product of two factors, which cannot be averaged one by one; stacking them gives the mean change
    with the sum of the ranks.

    Raises
    ------
    PriorError
        If they are not of the same network.
    """
    first = adapters[0]
    if any(adapter.weights.keys() != first.weights.keys() for adapter in adapters):
        raise PriorError("adapter: the adapters are of different networks; average those of one prior.")
    rank = sum(adapter.rank for adapter in adapters)
    weights = {}
    for name in first.weights:
        parts = [adapter.weights[name] for adapter in adapters]
        if ".lora_A." in name:
            weights[name] = torch.cat(parts, dim=0)
        else:  # A change is lora_alpha / r times B A.
            scales = [adapter.config["lora_alpha"] / adapter.rank / len(adapters) for adapter in adapters]
            weights[name] = torch.cat([scale * part for scale, part in zip(scales, parts, strict=True)], dim=1)
    about = {"prior": first.about.get("prior"), "average_of": [adapter.about for adapter in adapters]}
    return SavedAdapter({**first.config, "r": rank, "lora_alpha": rank}, weights, about)
