"""Import guided-diffusion checkpoints into the folder format of priors.

Nothing is unpickled: checkpoints are read from safetensors, or by torch restricted to tensors and plain containers.
"""

from __future__ import annotations

import json
import pickle
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from napari_d3ip.device import is_out_of_memory
from napari_d3ip.errors import PriorError
from napari_d3ip.files import is_regular
from napari_d3ip.io.guard import one_line
from napari_d3ip.prior.checks import MOST_TRAIN_STEPS, check_prior, check_range, check_tensors
from napari_d3ip.prior.guided_diffusion import AttentionHeads, GuidedDiffusionUNet, in_order
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig
from napari_d3ip.prior.schedules import cosine_schedule, linear_schedule

RECORD_NAME = "import.json"
# Where trainers store weights, in the order in which they prefer them for sampling.
_KEYS = (
    *("ema", "ema_state_dict", "model_ema", "ema_model", "shadow_params"),
    *("state_dict", "model_state_dict", "model", "module", "params"),
)
_FIRST_NAME = "time_embed.0.weight"
_RESCALED_STEPS = 1000
_DEEPEST = 8


@dataclass(frozen=True)
class ImportOptions:
    """Options that a guided-diffusion checkpoint does not store; the defaults are guided-diffusion's.

    Parameters
    ----------
    heads : AttentionHeads
        Division of attention into heads.
    schedule : {"linear", "cosine"}
        Schedule of the noise variances beta.
    diffusion_steps : int
        Number T of diffusion steps in training.
    rescale_timesteps : bool
        Whether the network was given times scaled to 0 ... 1000, whatever T is.
    low, high : float
        Network values of image intensities 0 and 1. None for low: -1, or 0 for complex images (2 channels), whose
        parts have either sign.
    image_size : int
        Height and width of the training images; only recorded.
    """

    heads: AttentionHeads = field(default_factory=AttentionHeads)
    schedule: Literal["linear", "cosine"] = "linear"
    diffusion_steps: int = 1000
    rescale_timesteps: bool = False
    low: float | None = None
    high: float = 1.0
    image_size: int = 256

    def alphas_cumprod(self) -> Tensor:
        """Compute alpha_bar at the times that are integers for the network.

        Raises
        ------
        PriorError
            If there are too few or too many steps, or rescaled times are not integers.
        """
        steps = self.diffusion_steps
        if not 2 <= steps <= MOST_TRAIN_STEPS:
            raise PriorError(f"diffusion_steps: must be 2 to {MOST_TRAIN_STEPS}, got {steps}.")
        # The variances of the linear schedule are those of 1000 steps, rescaled to T.
        scale = 1000 / steps
        alphas = (
            linear_schedule(steps, scale * 1e-4, scale * 0.02) if self.schedule == "linear" else cosine_schedule(steps)
        )
        if not self.rescale_timesteps:
            return alphas
        if steps % _RESCALED_STEPS:
            raise PriorError(
                f"rescale_timesteps: diffusion steps must be a multiple of {_RESCALED_STEPS}, got {steps}, since "
                "otherwise rescaled "
                "times are not whole numbers; such a model cannot be imported."
            )
        return alphas[:: steps // _RESCALED_STEPS]


def import_guided_diffusion(checkpoint: Path, folder: Path, options: ImportOptions | None = None) -> DiffusionPrior:
    """Convert a checkpoint of guided-diffusion's unconditional U-Net (ADM) to a prior's folder.

    The architecture is inferred from the weights, even if they are a list without names (a moving average of the
    parameters). A learned variance is kept in the file, but not used.

    Parameters
    ----------
    checkpoint : Path
        State dict, list of parameters, or either inside a trainer's checkpoint; in torch's format or safetensors.
    folder : Path
        New folder, a ``DDPMPipeline`` with safetensors weights (float32); ``import.json`` records the origin.
    options : ImportOptions, optional
        What the checkpoint does not store.

    Returns
    -------
    DiffusionPrior
        The imported prior.

    Raises
    ------
    PriorError
        If the checkpoint cannot be read safely, is of another network, or `diffusers` cannot represent it; if the
        folder exists.
    """
    options = options or ImportOptions()
    if folder.exists():
        raise PriorError(f"prior: {folder} exists already; remove it or choose another folder.")
    try:
        return _import(checkpoint, folder, options)
    except PriorError:
        raise
    except Exception as error:  # Networks built from arbitrary tensors may raise anything.
        if is_out_of_memory(error):
            raise
        raise PriorError(f"prior: {checkpoint} cannot be imported ({one_line(error)}); give another file.") from error


def _import(checkpoint: Path, folder: Path, options: ImportOptions) -> DiffusionPrior:
    """Write the folder of a prior; exceptions of libraries pass unchanged."""
    alphas_cumprod = options.alphas_cumprod()
    tensors = _parameters(read_checkpoint(checkpoint), checkpoint)
    layout = GuidedDiffusionUNet.from_shapes([tuple(tensor.shape) for tensor in tensors])
    check_tensors({str(number): tensor for number, tensor in enumerate(tensors)})
    head_width, head_count = layout.heads_for_diffusers(options.heads)
    low = (0.0 if layout.in_channels == 2 else -1.0) if options.low is None else options.low
    config = PriorConfig(
        channels=layout.in_channels,
        low=low,
        high=options.high,
        attention_heads=head_count,
    )
    try:
        check_range(config.low, config.high)
    except ValueError as error:
        raise PriorError(f"low: {error}; give the network's range.") from error
    unet = layout.build(options.image_size, head_width)
    unet.load_state_dict(layout.convert(tensors, options.heads))
    prior = DiffusionPrior(unet, alphas_cumprod, config, name=folder.name).eval().requires_grad_(False)
    check_prior(prior, checkpoint)
    record = {"checkpoint": checkpoint.name, "layout": "guided-diffusion", "options": asdict(options)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written completely or not at all.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
        made = Path(work) / folder.name
        prior.save(made, half=False)
        (made / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")
        made.rename(folder)
    return prior


def read_checkpoint(path: Path) -> Any:
    """Read the content of a checkpoint: tensors in plain containers.

    Raises
    ------
    PriorError
        If it is missing, broken, or holds objects that need unpickling.
    """
    if not is_regular(path):
        raise PriorError(f"prior: checkpoint {path} does not exist; give the file to import.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About odd pickles, which are rejected.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PriorError(
            f"prior: {path} must hold tensors only, since unpickling other objects could run any code; save "
            "the network's state_dict() alone, best as safetensors, where the file is trusted, and import that."
        ) from error
    except Exception as error:  # Broken files fail in many ways.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if is_out_of_memory(error):
            raise
        raise PriorError(f"prior: {path} cannot be read as a checkpoint ({reason}); give another file.") from error


def _parameters(content: Any, path: Path, depth: int = 0) -> list[Tensor]:
    """Return the network's parameters in order of definition, wherever a checkpoint stores them."""
    if depth > _DEEPEST:
        raise PriorError(f"prior: {path} is nested too deeply; give the network's state dict alone.")
    if isinstance(content, Sequence) and content and all(isinstance(item, Tensor) for item in content):
        return list(content)
    if isinstance(content, Mapping):
        content = {str(key): value for key, value in content.items()}
        names = list(content)
        prefixes = [name.removesuffix(_FIRST_NAME) for name in names if name.endswith(_FIRST_NAME)]
        if prefixes:
            prefix = max(prefixes, key=lambda prefix: "ema" in prefix)
            return in_order({name.removeprefix(prefix): content[name] for name in names if name.startswith(prefix)})
        for key in _KEYS:
            if isinstance(content.get(key), Mapping | Sequence) and content[key]:
                return _parameters(content[key], path, depth + 1)
    raise PriorError(
        f"prior: {path} holds neither the weights of guided-diffusion's U-Net ({_FIRST_NAME}) nor a list of them; "
        "give its state dict or the list of its moving average."
    )
