"""Diffusion prior: a 2D noise-prediction network with its variance schedule.

Wraps a `diffusers` ``UNet2DModel`` so that the rest of the library handles images of any size in normalised
intensities ([0, 1] for the robust range of a slice), without padding, patch size or data range. No knowledge
of measurements, operators or adaptation.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_d3ip.prior.records import DIGEST, digest_of_files
from napari_d3ip.prior.schedules import scheduler_of

CONFIG_NAME = "d3ip_prior.json"
WEIGHT_FILES = "diffusion_pytorch_model*.safetensors"
NORM_GROUPS = 8
"""Group normalisation of `build_unet`; the number of channels must be a multiple."""
_LEAST_OF_MAXIMUM = 1e-4


class _Building:
    """Lock that sets torch's default type to single precision, whatever the caller's is."""

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
"""Held while a network is built or loaded, which uses global state: torch's random numbers, its default type, and the
initialisation of modules. Runs in two threads would interfere otherwise."""


@dataclass(frozen=True)
class PriorConfig:
    """Configuration that a `diffusers` model folder does not store.

    Parameters
    ----------
    channels : int
        Image channels (1 for magnitude images).
    patch_size : int
        Side of the pixel blocks folded into channels before the network (space-to-depth).
    low, high : float
        Network values of image intensities 0 and 1.
    attention_heads : int or None
        Heads of every attention block, if their width differs between levels (which a ``UNet2DModel`` cannot
        represent); None: from the network.
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
        Name for provenance.
    """

    alphas_cumprod: Tensor

    def __init__(self, unet: Any, alphas_cumprod: Tensor, config: PriorConfig, name: str = "custom") -> None:
        super().__init__()
        # The memory format in which convolutions are fastest on a CPU: a step of adaptation takes a fifth less time.
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
        """Return the number T of steps of the training schedule."""
        return len(self.alphas_cumprod)

    def normalise(self, image: Tensor) -> Tensor:
        """Map intensities [0, 1] to the network's data range."""
        return image * (self.config.high - self.config.low) + self.config.low

    def denormalise(self, value: Tensor) -> Tensor:
        """Invert `normalise`."""
        return (value - self.config.low) / (self.config.high - self.config.low)

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest size the network accepts that contains an image of this size."""
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
            # Reflection preserves the noise statistics at the border; replication would draw stripes.
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
        """Estimate the denoised image ``(x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar)`` (Chung & Ye, eq. 4)."""
        alpha_bar = self.alphas_cumprod[timestep]
        return self.denormalise((noisy - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt())

    def add_noise(self, image: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Compute ``sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise`` of an image in intensities (Ho et al., eq. 4)."""
        alpha_bar = self.alphas_cumprod[timestep]
        noisy: Tensor = alpha_bar.sqrt() * self.normalise(image) + (1 - alpha_bar).sqrt() * noise
        return noisy

    def noise_between(self, image: Tensor, noisy: Tensor, timestep: int) -> Tensor:
        """Compute the noise with which `add_noise` turns an image in intensities into ``noisy``."""
        alpha_bar = self.alphas_cumprod[timestep]
        noise: Tensor = (noisy - alpha_bar.sqrt() * self.normalise(image)) / (1 - alpha_bar).sqrt()
        return noise

    def save(self, folder: Path, *, half: bool = True) -> None:
        """Write a ``DDPMPipeline`` folder (safetensors) with the prior's own settings and a digest of its weights."""
        import copy

        from diffusers import DDPMPipeline

        unet = copy.deepcopy(self.unet).to("cpu", memory_format=torch.contiguous_format)
        if half:
            unet = unet.half()
        folder.mkdir(parents=True, exist_ok=True)
        DDPMPipeline(unet, scheduler_of(self.alphas_cumprod.cpu())).save_pretrained(folder, safe_serialization=True)
        record = {**asdict(self.config), DIGEST: digest_of_files((folder / "unet").glob(WEIGHT_FILES))}
        (folder / CONFIG_NAME).write_text(json.dumps(record, indent=2) + "\n")


def robust_maximum(volume: Tensor) -> float:
    """Return the 99.8th percentile of the absolute values, the intensity that is 1 for a prior.

    If this is negligible compared with the maximum, as for a single bright voxel, return a fraction of the maximum.
    """
    values = volume.abs().flatten()
    rank = max(1, round(0.998 * len(values)))
    least = max(_LEAST_OF_MAXIMUM * float(values.max()), torch.finfo(torch.float32).tiny)
    return max(float(values.kthvalue(rank).values), least)


def build_unet(width: int, patch_size: int, channels: int, sample_size: int) -> Any:
    """Build the untrained space-to-depth U-Net of the phantom prior.

    Three levels of ``width * (1, 2, 3)`` channels, one residual block per level with scale-shift time embedding,
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
