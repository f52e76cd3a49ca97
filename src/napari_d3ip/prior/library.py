"""Find priors: shipped ones, installed ones, folders, and the cache of the Hugging Face hub.

Folders only, without their content or torch, so that menus can list them.
"""

from __future__ import annotations

import re
from pathlib import Path

from platformdirs import user_data_path

from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.prior.records import read_record

BUNDLED = Path(__file__).parent / "weights"
SHIPPED = "phantom"
"""Prior that ``auto`` stands for, in runs and in trainings; record: docs/research/prior-training.md."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_FILES = ["*.json", "*.safetensors", "*.bin"]


def installed_folder() -> Path:
    """Return the folder of the priors that the user installed; it need not exist."""
    return user_data_path("napari-d3ip", appauthor=False) / "priors"


def installed_path(name: str) -> Path:
    """Return the folder of a prior to install under a name; a path is returned unchanged.

    Raises
    ------
    PriorError
        If a shipped prior has that name.
    """
    if Path(name).name != name or name in (".", ".."):
        return Path(name)
    if is_pipeline(BUNDLED / name):
        raise PriorError(f"prior: '{name}' is a shipped prior; choose another name, or give a folder (./{name}).")
    return installed_folder() / name


def available_priors() -> list[str]:
    """List the names of the priors shipped with the package and of those the user installed."""
    places = (BUNDLED, installed_folder())
    return sorted({path.parent.name for place in places for path in place.glob("*/model_index.json")})


def find_prior(name_or_path: str | Path) -> Path:
    """Return the folder of a prior.

    Parameters
    ----------
    name_or_path : str or Path
        Name from `available_priors`, a folder, or ``owner/name`` of a model on the hub that is in the local cache.

    Returns
    -------
    Path
        Folder with a ``model_index.json``.

    Raises
    ------
    PriorError
        If there is no such prior.
    """
    name = str(name_or_path)
    for folder in (BUNDLED / name, installed_folder() / name, Path(name_or_path)):
        if is_pipeline(folder):
            return folder
    cached = _cached(name) if _HUB_ID.fullmatch(name) and not Path(name).exists() else None
    if cached is not None:
        return cached
    names = ", ".join(available_priors()) or "none"
    raise PriorError(
        f"prior: '{name}' is neither a shipped prior nor an installed one ({names}), nor a folder with a diffusers "
        "pipeline (model_index.json), nor a hub model in the local cache (`hf download OWNER/NAME` puts one there; "
        "nothing is downloaded here); give one of these."
    )


def train_steps(folder: Path) -> int | None:
    """Return the number of steps of a prior's noise schedule from its folder; None if it is not stored."""
    for place in (folder / "scheduler", folder):  # Older models of the hub have a flat folder.
        try:
            return int(read_record(place / "scheduler_config.json")["num_train_timesteps"])
        except (FileError, ValueError, KeyError, TypeError):
            continue
    return None


def is_pipeline(folder: Path) -> bool:
    """Return whether a folder holds a prior."""
    try:
        return (folder / "model_index.json").is_file()
    except OSError:  # The text is too long for a file name.
        return False


def _cached(name: str) -> Path | None:
    """Return the snapshot of a hub model in the local cache, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if is_pipeline(folder) else None
