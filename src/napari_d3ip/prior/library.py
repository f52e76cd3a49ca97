"""Where priors are: those shipped, those the user installed, folders, and the cache of the Hugging Face hub.

Knows folders, not what is in them; imports no torch, so that menus can list them.
"""

from __future__ import annotations

import re
from pathlib import Path

from platformdirs import user_data_path

from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.prior.records import read_record

BUNDLED = Path(__file__).parent / "weights"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_FILES = ["*.json", "*.safetensors", "*.bin"]


def installed_folder() -> Path:
    """Folder of the priors that the user installed; it need not exist."""
    return user_data_path("napari-d3ip", appauthor=False) / "priors"


def installed_path(name: str) -> Path:
    """Folder of a prior that the user installs under a name; a path stays what it is.

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
    """Names of the priors shipped with the package and of those the user installed."""
    places = (BUNDLED, installed_folder())
    return sorted({path.parent.name for place in places for path in place.glob("*/model_index.json")})


def find_prior(name_or_path: str | Path) -> Path:
    """Folder of a prior.

    Parameters
    ----------
    name_or_path : str or Path
        Name from `available_priors`, a folder, or ``owner/name`` of a model on the hub that is in the local cache.

    Returns
    -------
    Path
        It holds a ``model_index.json``.

    Raises
    ------
    PriorError
        If there is none.
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
    """Number of times of a prior's noise schedule, as its folder says; None if it does not."""
    for place in (folder / "scheduler", folder):  # Older models of the hub lie flat.
        try:
            return int(read_record(place / "scheduler_config.json")["num_train_timesteps"])
        except (FileError, ValueError, KeyError, TypeError):
            continue
    return None


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds a prior."""
    try:
        return (folder / "model_index.json").is_file()
    except OSError:  # No name of a file could be so long.
        return False


def _cached(name: str) -> Path | None:
    """Snapshot of a hub model in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if is_pipeline(folder) else None
