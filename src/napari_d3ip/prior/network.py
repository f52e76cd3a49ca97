"""The diffusion prior: a 2D noise-prediction network with its variance schedule.

Wraps a `diffusers` ``UNet2DModel`` so that the rest of the library sees images of any size in physical-like
units ([0, 1] for the robust range of a slice) and never a padding, a patch size or a data range. Knows nothing
of measurements, operators or adaptation.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_d3ip.errors import PriorError

CONFIG_NAME = "d3ip_prior.json"
BUNDLED = Path(__file__).parent / "weights"


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
    """

    channels: int = 1
    patch_size: int = 1
    low: float = -1.0
    high: float = 1.0


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
        self.unet = unet
        self.config = config
        self.name = name
        self.register_buffer("alphas_cumprod", alphas_cumprod.float(), persistent=False)
        levels = len(unet.config.block_out_channels) - 1
        self._multiple = config.patch_size * 2**levels

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
        bottom, right = -height % self._multiple, -width % self._multiple
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

    def save(self, folder: Path, *, half: bool = True) -> None:
        """Write a ``DDPMPipeline`` folder (safetensors) with the prior's own settings beside it."""
        import copy

        from diffusers import DDPMPipeline, DDPMScheduler

        unet = copy.deepcopy(self.unet).to("cpu")
        if half:
            unet = unet.half()
        alphas_cumprod = self.alphas_cumprod.double().cpu()
        betas = 1 - alphas_cumprod / torch.cat((torch.ones(1), alphas_cumprod[:-1]))
        first, last = float(betas[0]), float(betas[-1])
        is_linear = torch.allclose(linear_schedule(len(betas), first, last).double(), alphas_cumprod, atol=1e-5)
        scheduler = DDPMScheduler(
            num_train_timesteps=self.train_steps,
            prediction_type="epsilon",
            **({"beta_start": first, "beta_end": last} if is_linear else {"trained_betas": betas.tolist()}),
        )
        folder.mkdir(parents=True, exist_ok=True)
        DDPMPipeline(unet, scheduler).save_pretrained(folder, safe_serialization=True)
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
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
    )


def linear_schedule(train_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """alpha_bar of the linear beta schedule (Ho et al. 2020), shape (train_steps,), float32."""
    betas = torch.linspace(beta_start, beta_end, train_steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0).float()


def available_priors() -> list[str]:
    """Names of the priors shipped with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/model_index.json"))


def load_prior(name_or_path: str | Path, device: torch.device | str = "cpu") -> DiffusionPrior:
    """Load a shipped prior by name, or any unconditional `diffusers` pixel model from a folder.

    Parameters
    ----------
    name_or_path : str or Path
        Name from `available_priors`, or a ``DDPMPipeline`` folder with safetensors weights.
    device : torch.device or str
        Where to put it.

    Returns
    -------
    DiffusionPrior
        In evaluation mode, float32, without gradients.

    Raises
    ------
    PriorError
        If there is no such prior or the folder does not hold one.
    """
    from diffusers import DDPMScheduler, UNet2DModel

    bundled = BUNDLED / str(name_or_path)
    folder = bundled if (bundled / "model_index.json").exists() else Path(name_or_path)
    if not (folder / "model_index.json").exists():
        names = ", ".join(available_priors()) or "none"
        raise PriorError(
            f"prior: '{name_or_path}' is neither a shipped prior ({names}) nor a folder with a diffusers "
            "DDPMPipeline (model_index.json); give one of these."
        )
    try:
        unet = UNet2DModel.from_pretrained(
            folder / "unet", use_safetensors=True, torch_dtype=torch.float32, local_files_only=True
        )
        scheduler = DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        settings = folder / CONFIG_NAME
        config = (
            PriorConfig(**json.loads(settings.read_text()))
            if settings.exists()
            else PriorConfig(channels=int(unet.config.in_channels))
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise PriorError(f"prior: {folder} does not load as a diffusers UNet2DModel ({reason}).") from error
    if scheduler.config.prediction_type != "epsilon":
        raise PriorError(
            f"prior: {folder} predicts '{scheduler.config.prediction_type}'; only epsilon prediction can be used."
        )
    prior = DiffusionPrior(unet, scheduler.alphas_cumprod, config, name=str(name_or_path))
    return prior.to(device).eval().requires_grad_(False)
