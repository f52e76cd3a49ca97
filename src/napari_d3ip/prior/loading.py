"""Load a prior from the folder of a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from napari_d3ip.device import is_out_of_memory
from napari_d3ip.errors import DeviceError, FileError, PriorError
from napari_d3ip.io.guard import one_line
from napari_d3ip.prior.checks import check_network, check_prior, check_range, check_scheduler, check_stored
from napari_d3ip.prior.library import find_prior
from napari_d3ip.prior.network import BUILDING, CONFIG_NAME, WEIGHT_FILES, DiffusionPrior, PriorConfig
from napari_d3ip.prior.records import DIGEST, digest_of_files, read_record


def load_prior(name_or_path: str | Path, device: torch.device | str = "cpu") -> DiffusionPrior:
    """Load a prior by name, or any unconditional `diffusers` pixel model.

    Weights are read from safetensors, or else from a file with tensors only; nothing is unpickled.

    Parameters
    ----------
    name_or_path : str or Path
        Name from `available_priors`, folder of a `diffusers` pipeline with a ``UNet2DModel`` (DDPM, DDIM and the
        like), or name of one on the Hugging Face hub that is in the local cache.
    device : torch.device or str
        Device of the network.

    Returns
    -------
    DiffusionPrior
        Prior in evaluation mode, float32, without gradients.

    Raises
    ------
    PriorError
        If there is no such prior, or it is not an unconditional pixel model that predicts the noise.
    DeviceError
        If it does not fit into memory.
    """
    folder = find_prior(name_or_path)
    try:
        prior = _load(folder, str(name_or_path)).to(device).eval().requires_grad_(False)
        check_prior(prior, folder)
        _check_digest(folder)
    except PriorError:
        raise
    except FileError as error:
        raise PriorError(f"prior: {error}") from error
    except Exception as error:  # From diffusers, and from networks built of arbitrary configurations.
        if is_out_of_memory(error):
            raise DeviceError(f"memory: not enough to load the prior in {folder}; choose a smaller one.") from error
        raise PriorError(
            f"prior: {folder} cannot be loaded as a diffusers UNet2DModel ({one_line(error)})."
        ) from error
    return prior


def _load(folder: Path, name: str) -> DiffusionPrior:
    """Load a prior from a pipeline's folder; exceptions of libraries pass unchanged."""
    from diffusers import DDPMScheduler, UNet2DModel

    settings = folder / CONFIG_NAME
    _check_pipeline(folder)
    # Older models of the hub have a flat folder.
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
    stated.pop(DIGEST, None)  # Looked at last: other checks say more.
    config = PriorConfig(**stated)
    if scheduler.config.prediction_type != "epsilon":
        raise PriorError(
            f"prior: {folder} must predict epsilon, got prediction_type '{scheduler.config.prediction_type}'; choose "
            "another."
        )
    if unet.class_embedding is not None:
        raise PriorError(f"prior: {folder} is conditioned on classes; choose an unconditional model.")
    _check_config(config, unet.config.in_channels, settings)
    return DiffusionPrior(unet, scheduler.alphas_cumprod, config, name=name)


def _check_digest(folder: Path) -> None:
    """Refuse weights that are not those of which a digest was written down; folders of others have none."""
    settings = folder / CONFIG_NAME
    written = read_record(settings).get(DIGEST) if settings.exists() else None
    files = list((folder / "unet").glob(WEIGHT_FILES))
    if written is not None and files and written != digest_of_files(files):
        raise PriorError(
            f"prior: the weights in {folder} are damaged or were changed (their digest is not the {DIGEST} in "
            f"{CONFIG_NAME}); restore them, or remove {DIGEST} there if they were changed on purpose."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence diffusers' messages, which errors repeat in one sentence."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_config(config: PriorConfig, inputs: int, path: Path) -> None:
    """Validate the configuration file of a prior against its network."""
    stated: dict[str, Any] = vars(config)
    channels, patch_size = stated["channels"], stated["patch_size"]
    of_patches = type(channels) is int and type(patch_size) is int and patch_size >= 1
    if not of_patches or channels * patch_size**2 != inputs:
        raise PriorError(
            f"prior: {path} states {channels} channels in patches of {patch_size}, which its network ({inputs} "
            "inputs) "
            "does not have; restore it."
        )
    heads = stated["attention_heads"]
    if heads is not None and not (type(heads) is int and heads >= 1):
        raise PriorError(
            f"prior: attention heads in {path} must be a positive whole number, got {heads!r}; restore it."
        )
    try:
        check_range(stated["low"], stated["high"])
    except ValueError as error:
        raise PriorError(f"prior: range in {path} is invalid ({error}); restore it.") from error


def _check_pipeline(folder: Path) -> None:
    """Reject pipelines of latent and of conditional models, whose network alone would load."""
    parts = read_record(folder / "model_index.json")
    stated = parts.get("unet")
    network = stated[1] if isinstance(stated, list) and len(stated) > 1 else None
    latent = [name for name in ("vae", "vqvae", "movq") if name in parts]
    if network != "UNet2DModel" or latent:
        what = "works on latent images" if latent else f"its network is {network}"
        raise PriorError(
            f"prior: {folder} must be an unconditional pixel model ({what}); choose a DDPM or DDIM pipeline."
        )
