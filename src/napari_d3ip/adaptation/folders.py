"""Folders of saved adapters: where they are, and what they say of themselves.

Knows folders and JSON; imports no torch, so that menus can list them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.files import require_regular
from napari_d3ip.io.guard import one_line
from napari_d3ip.prior.records import read_record
from napari_d3ip.settings import MOST_RANK

ABOUT_NAME = "napari_d3ip.json"
CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"


def installed_folder() -> Path:
    """Return the folder of the adapters that the user keeps for later scans; it need not exist."""
    return user_data_path("napari-d3ip", appauthor=False) / "adapters"


def available_adapters(kind: str) -> list[Path]:
    """Return the folders of the adapters kept from scans of a kind, ``"sinogram"`` or ``"kspace"``, by name."""
    folders = sorted(path.parent for path in installed_folder().glob(f"*/{CONFIG_NAME}"))
    return [folder for folder in folders if _about(folder).get("kind") == kind]


def describe_adapter(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """PEFT's configuration in a folder of saved adapters, and what they are of: prior, settings, scan and its kind.

    Raises
    ------
    PriorError
        If there is none, or it is no LoRA.
    """
    folder = Path(folder)
    try:
        config = read_record(folder / CONFIG_NAME)
        if config["peft_type"] != "LORA":
            raise PriorError(f"adapter: {folder} is {config['peft_type']}; only LoRA can be used.")
        rank = config["r"]
        if not (type(rank) is int and 1 <= rank <= MOST_RANK):
            raise ValueError(f"r must be 1 to {MOST_RANK}, got {rank!r}")
        require_regular(folder / WEIGHTS_NAME)
    except KeyError as error:
        raise no_adapter(folder, ValueError(f"{CONFIG_NAME} does not say {error}")) from error
    except (FileError, OSError, ValueError, TypeError) as error:
        raise no_adapter(folder, error) from error
    return config, _about(folder)


def settings_of_adapter(folder: str | Path) -> dict[str, Any]:
    """Return the settings that an adapter saved in a folder must be used with: its rank, and the layers it adapts.

    Raises
    ------
    PriorError
        If there is none, or it is no LoRA.
    """
    from safetensors import SafetensorError, safe_open

    rank = int(describe_adapter(folder)[0]["r"])
    try:
        with safe_open(Path(folder) / WEIGHTS_NAME, "numpy") as weights:
            of_attention = [".attentions." in name for name in weights.keys()]  # noqa: SIM118 - no mapping
    except (OSError, ValueError, SafetensorError) as error:
        raise no_adapter(Path(folder), error) from error
    layers = "residual" if not any(of_attention) else "attention" if all(of_attention) else "all"
    return {"lora_rank": rank, "adapt_layers": layers}


def no_adapter(folder: Path, error: Exception) -> PriorError:
    """Return the error of a folder that holds none."""
    reason = one_line(error)
    return PriorError(f"adapter: {folder} is no folder of saved adapters ({reason}); choose another.")


def _about(folder: Path) -> dict[str, Any]:
    """Read our own note; PEFT's folders have none."""
    try:
        return read_record(folder / ABOUT_NAME)
    except (FileError, OSError, ValueError):
        return {}
