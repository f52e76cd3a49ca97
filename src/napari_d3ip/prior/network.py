"""The diffusion prior: a 2D noise-prediction network with its variance schedule.

Wraps a `diffusers` ``UNet2DModel`` so that the rest of the library sees images of any size in physical-like
units ([0, 1] for the robust range of a slice) and never a padding, a patch size or a data range. Knows nothing
of measurements, operators or adaptation.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_d3ip.device import is_out_of_memory
from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.io.guard import one_line
from napari_d3ip.prior.checks import check_network, check_prior, check_range, check_scheduler, check_stored
from napari_d3ip.prior.library import find_prior
from napari_d3ip.prior.records import read_record

CONFIG_NAME = "d3ip_prior.json"
_COSINE = "squaredcos_cap_v2"
NORM_GROUPS = 8
"""Of the channels of `build_unet`, whose number they divide."""


class _Building:
    """Lock that holds torch's default type at single precision, whatever the caller's is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dtype = torch.float32

    def __enter__(self) -> None:
        self._lock.acquire()
        self._dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)

    def __exit__(self, *error: object) -> None:
        torch.set_default_dtype(self._dtype)
        self._lock.release()


BUILDING = _Building()
"""Held while a network is made or loaded, which goes through global state: torch's random numbers, its default type,
and the way that modules make their parameters. Two runs in two threads would spoil each other's."""


@dataclass(frozen=True)
class PriorConfig:
    """What a `diffusers` model folder does not say about itself.

    Parameters
    ----------
    channels : int
        Image channels (1 for magnitude images).
    patch_size : int
        Side of the pixel blocks folded into channels before the network (space-to-depth).
    low, high : float
        Network values of image intensities 0 and 1.
    attention_heads : int or None
        Heads of every attention block, where these are not as wide at every level (which a ``UNet2DModel`` cannot
        say); None: as the network says.
    """

    channels: int = 1
    patch_size: int = 1
    low: float = -1.0
    high: float = 1.0
    attention_heads: int | None = None


class DiffusionPrior(nn.Module):
    """Noise predictor ``eps_theta(x_t, t)`` with its cumulative schedule ``alpha_bar``.

    Parameters
    ----------
    unet : diffusers.UNet2DModel
        Network with epsilon prediction.
    alphas_cumprod : Tensor
        Shape (T,), alpha_bar_t of the training schedule (Ho et al. 2020, eq. 4).
    config : PriorConfig
        Channels, patch size and data range.
    name : str
        What provenance records.
    """

    alphas_cumprod: Tensor

    def __init__(self, unet: Any, alphas_cumprod: Tensor, config: PriorConfig, name: str = "custom") -> None:
        super().__init__()
        # The order that convolutions are fastest in on a CPU: a step of adaptation takes a fifth less time.
        self.unet = unet.to(memory_format=torch.channels_last)
        self.config = config
        self.name = name
        self.register_buffer("alphas_cumprod", alphas_cumprod.float(), persistent=False)
        levels = len(unet.config.block_out_channels) - 1
        self._multiple = config.patch_size * 2**levels
        if config.attention_heads is not None:
            from diffusers.models.attention_processor import Attention

            for module in unet.modules():
                if isinstance(module, Attention):
                    module.heads = config.attention_heads

    @property
    def train_steps(self) -> int:
        """Number T of steps of the training schedule."""
        return len(self.alphas_cumprod)

    def normalise(self, image: Tensor) -> Tensor:
        """Map intensities [0, 1] to the network's data range."""
        return image * (self.config.high - self.config.low) + self.config.low

    def denormalise(self, value: Tensor) -> Tensor:
        """Inverse of `normalise`."""
        return (value - self.config.low) / (self.config.high - self.config.low)

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """Size of an image that the network can take and that holds one of this size."""
        return height + -height % self._multiple, width + -width % self._multiple

    def epsilon(self, noisy: Tensor, timestep: int | Tensor) -> Tensor:
        """Predict the noise in ``noisy``.

        Parameters
        ----------
        noisy : Tensor
            Shape (batch, channels, height, width), any height and width, in the network's range.
        timestep : int or Tensor
            t in 0 ... T-1, one for all or shape (batch,).

        Returns
        -------
        Tensor
            Same shape as ``noisy``.
        """
        height, width = noisy.shape[-2:]
        whole_height, whole_width = self.padded_shape(height, width)
        bottom, right = whole_height - height, whole_width - width
        padded = noisy
        if bottom or right:
            # Reflection keeps the noise statistics at the border; replication would draw stripes.
            fits = bottom < height and right < width
            padded = F.pad(noisy, (0, right, 0, bottom), mode="reflect" if fits else "replicate")
        patch = self.config.patch_size
        folded = F.pixel_unshuffle(padded, patch) if patch > 1 else padded
        predicted = self.unet(folded, timestep, return_dict=False)[0]
        predicted = predicted[:, : folded.shape[1]]  # Learned-variance models append channels.
        unfolded = F.pixel_shuffle(predicted, patch) if patch > 1 else predicted
        result: Tensor = unfolded[..., :height, :width]
        return result

    def tweedie(self, noisy: Tensor, epsilon: Tensor, timestep: int) -> Tensor:
        """Denoised image ``(x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar)`` in intensities (Chung & Ye, eq. 4)."""
        alpha_bar = self.alphas_cumprod[timestep]
        return self.denormalise((noisy - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt())

    def noised(self, image: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """``x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise`` of an image in intensities (Ho et al., eq. 4)."""
        alpha_bar = self.alphas_cumprod[timestep]
        noisy: Tensor = alpha_bar.sqrt() * self.normalise(image) + (1 - alpha_bar).sqrt() * noise
        return noisy

    def noise_between(self, image: Tensor, noisy: Tensor, timestep: int) -> Tensor:
        """Noise by which `noised` makes ``noisy`` of an image in intensities."""
        alpha_bar = self.alphas_cumprod[timestep]
        noise: Tensor = (noisy - alpha_bar.sqrt() * self.normalise(image)) / (1 - alpha_bar).sqrt()
        return noise

    def save(self, folder: Path, *, half: bool = True) -> None:
        """Write a ``DDPMPipeline`` folder (safetensors) with the prior's own settings beside it."""
        import copy

        from diffusers import DDPMPipeline

        unet = copy.deepcopy(self.unet).to("cpu", memory_format=torch.contiguous_format)
        if half:
            unet = unet.half()
        folder.mkdir(parents=True, exist_ok=True)
        DDPMPipeline(unet, _scheduler(self.alphas_cumprod.cpu())).save_pretrained(folder, safe_serialization=True)
        (folder / CONFIG_NAME).write_text(json.dumps(asdict(self.config), indent=2) + "\n")


def build_unet(width: int, patch_size: int, channels: int, sample_size: int) -> Any:
    """Make the space-to-depth U-Net of the phantom prior, untrained.

    Three levels of ``width * (1, 2, 3)`` channels, one residual block a level with scale-shift time embedding,
    attention at the lowest level.
    """
    from diffusers import UNet2DModel

    folded = channels * patch_size**2
    return UNet2DModel(
        sample_size=sample_size // patch_size,
        in_channels=folded,
        out_channels=folded,
        block_out_channels=(width, 2 * width, 3 * width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=NORM_GROUPS,
        resnet_time_scale_shift="scale_shift",
    )


def white_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, type and device of ``like``; each part of unit variance if complex."""
    if not like.is_complex():
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like.device)
    parts = torch.randn((*like.shape, 2), generator=generator, dtype=torch.float32)
    return torch.view_as_complex(parts).to(like.device)


def correlated_noise(like: Tensor, correlation: float, generator: torch.Generator) -> Tensor:
    """Noise as `white_noise` whose neighbouring slices are correlated.

    A first-order autoregression along z (inter-slice consistent stochasticity, arXiv 2602.04162).
    """
    noise = white_noise(like, generator)
    if correlation > 0:
        fresh = (1 - correlation**2) ** 0.5
        for z in range(1, len(noise)):
            noise[z] = correlation * noise[z - 1] + fresh * noise[z]
    return noise


def linear_schedule(train_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """alpha_bar of the linear beta schedule (Ho et al. 2020), shape (train_steps,), float32."""
    betas = torch.linspace(beta_start, beta_end, train_steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0).float()


def cosine_schedule(train_steps: int = 1000) -> Tensor:
    """alpha_bar of the cosine schedule (Nichol & Dhariwal, ICML 2021, eq. 17), shape (train_steps,), float32."""
    from diffusers import DDPMScheduler

    alphas_cumprod: Tensor = DDPMScheduler(train_steps, beta_schedule=_COSINE).alphas_cumprod
    return alphas_cumprod


def schedule_name(alphas_cumprod: Tensor) -> Literal["linear", "cosine", "other"]:
    """Which schedule an alpha_bar is of, whatever its first and last beta."""
    alphas_cumprod = alphas_cumprod.cpu()
    steps, betas = len(alphas_cumprod), _betas(alphas_cumprod)
    linear = linear_schedule(steps, float(betas[0]), float(betas[-1]))
    if torch.allclose(linear, alphas_cumprod, atol=1e-5):
        return "linear"
    return "cosine" if torch.allclose(cosine_schedule(steps), alphas_cumprod, rtol=1e-3, atol=1e-6) else "other"


def _betas(alphas_cumprod: Tensor) -> Tensor:
    alphas_cumprod = alphas_cumprod.double()
    return 1 - alphas_cumprod / torch.cat((torch.ones(1), alphas_cumprod[:-1]))


def _scheduler(alphas_cumprod: Tensor) -> Any:
    """Scheduler of this alpha_bar, by the schedule's name where it has one."""
    from diffusers import DDPMScheduler

    betas = _betas(alphas_cumprod)
    schedules: dict[str, dict[str, Any]] = {
        "linear": {"beta_start": float(betas[0]), "beta_end": float(betas[-1])},
        "cosine": {"beta_schedule": _COSINE},
        "other": {"trained_betas": betas.tolist()},
    }
    return DDPMScheduler(
        num_train_timesteps=len(betas), prediction_type="epsilon", **schedules[schedule_name(alphas_cumprod)]
    )


def load_prior(name_or_path: str | Path, device: torch.device | str = "cpu") -> DiffusionPrior:
    """Load a prior by name, or any unconditional `diffusers` pixel model.

    Weights are read from safetensors, or where there are none from a file of tensors only; nothing is unpickled.

    Parameters
    ----------
    name_or_path : str or Path
        Name from `available_priors`, folder of a `diffusers` pipeline with a ``UNet2DModel`` (DDPM, DDIM and the
        like), or name of one on the Hugging Face hub that is in the local cache.
    device : torch.device or str
        Where to put it.

    Returns
    -------
    DiffusionPrior
        In evaluation mode, float32, without gradients.

    Raises
    ------
    PriorError
        If there is no such prior, or it is not an unconditional pixel model that predicts the noise.
    """
    folder = find_prior(name_or_path)
    try:
        prior = _loaded(folder, str(name_or_path)).to(device).eval().requires_grad_(False)
        check_prior(prior, folder)
    except PriorError:
        raise
    except FileError as error:
        raise PriorError(f"prior: {error}") from error
    except Exception as error:  # Of diffusers, and of networks that were built of whatever a file says.
        if is_out_of_memory(error):
            raise
        raise PriorError(f"prior: {folder} does not load as a diffusers UNet2DModel ({one_line(error)}).") from error
    return prior


def _loaded(folder: Path, name: str) -> DiffusionPrior:
    """Prior of a pipeline's folder; raises whatever libraries do."""
    from diffusers import DDPMScheduler, UNet2DModel

    settings = folder / CONFIG_NAME
    _check_pipeline(folder)
    # Older models of the hub lie flat in their folder.
    unet_folder, scheduler_folder = (
        folder / part if (folder / part).is_dir() else folder for part in ("unet", "scheduler")
    )
    check_network(read_record(unet_folder / "config.json"))
    check_scheduler(read_record(scheduler_folder / "scheduler_config.json"))
    check_stored(unet_folder)
    with BUILDING, _quiet():
        unet, info = UNet2DModel.from_pretrained(
            unet_folder, torch_dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    if info["missing_keys"]:
        raise ValueError(f"weight {sorted(info['missing_keys'])[0]} is missing")
    scheduler = DDPMScheduler.from_pretrained(scheduler_folder, local_files_only=True)
    stated = read_record(settings) if settings.exists() else {"channels": int(unet.config.in_channels)}
    config = PriorConfig(**stated)
    if scheduler.config.prediction_type != "epsilon":
        raise PriorError(
            f"prior: {folder} predicts '{scheduler.config.prediction_type}'; only epsilon prediction can be used."
        )
    if unet.class_embedding is not None:
        raise PriorError(f"prior: {folder} is conditioned on classes; choose an unconditional model.")
    _check_config(config, unet.config.in_channels, settings)
    return DiffusionPrior(unet, scheduler.alphas_cumprod, config, name=name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep diffusers from printing what errors say in a sentence."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_config(config: PriorConfig, inputs: int, path: Path) -> None:
    """Refuse what people wrote into the file of a prior's configuration that its network cannot be used with."""
    stated: dict[str, Any] = vars(config)
    channels, patch_size = stated["channels"], stated["patch_size"]
    of_patches = type(channels) is int and type(patch_size) is int and patch_size >= 1
    if not of_patches or channels * patch_size**2 != inputs:
        raise PriorError(
            f"prior: {path} says {channels} channels in patches of {patch_size}, which its network ({inputs} inputs) "
            "does not have; restore it."
        )
    heads = stated["attention_heads"]
    if heads is not None and not (type(heads) is int and heads >= 1):
        raise PriorError(f"prior: {path} says {heads!r} attention heads; restore it.")
    try:
        check_range(stated["low"], stated["high"])
    except ValueError as error:
        raise PriorError(f"prior: {path} has no range ({error}); restore it.") from error


def _check_pipeline(folder: Path) -> None:
    """Refuse pipelines of latent and of conditional models, whose network alone would load."""
    parts = read_record(folder / "model_index.json")
    stated = parts.get("unet")
    network = stated[1] if isinstance(stated, list) and len(stated) > 1 else None
    latent = [name for name in ("vae", "vqvae", "movq") if name in parts]
    if network != "UNet2DModel" or latent:
        what = "works on latent images" if latent else f"its network is {network}"
        raise PriorError(f"prior: {folder} is no unconditional pixel model ({what}); choose a DDPM or DDIM pipeline.")
