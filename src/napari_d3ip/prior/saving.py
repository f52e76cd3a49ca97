"""Save tensors to files, complete or not at all, and verify them when they are read."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.device import is_out_of_memory
from napari_d3ip.errors import FileError
from napari_d3ip.files import require_regular
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.guard import one_line

_DIGEST = "digest"


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write tensors for `load_tensors`; an existing file is replaced only when the new one is complete.

    Parameters
    ----------
    content : dict of str
        Tensors, numbers and texts in plain containers; their digest is added.
    path : Path
        File to write.

    Raises
    ------
    FileError
        If it cannot be written; an existing file is kept.
    RuntimeError
        If the memory was not sufficient, see `napari_d3ip.device.is_out_of_memory`.
    """
    with replacing(path) as part:
        try:
            # Through Python's file, which says why it cannot write; torch's own says "enforce fail".
            with part.open("wb") as file:
                torch.save({**content, _DIGEST: digest_of(content)}, file)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise OSError(one_line(error)) from error


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a file of `save_tensors`, and verify its digest; nothing is unpickled.

    The format is a zip archive, whose checksums torch does not verify.

    Raises
    ------
    FileError
        If it is not such a file, or its content has changed.
    """
    require_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About odd pickles, which are rejected.
            content = torch.load(path, map_location="cpu", weights_only=True)
        written = content.pop(_DIGEST, None) if isinstance(content, dict) else None
        is_same = written is not None and written == digest_of(content)
    except Exception as error:  # torch.load raises many types for a damaged file.
        if is_out_of_memory(error):
            raise
        raise FileError(f"{path} cannot be read ({one_line(error)})") from error
    if written is None:
        raise FileError(f"{path} holds no digest of its content; another version or program may have written it")
    if not is_same:
        raise FileError(f"{path} is damaged (its content does not match its digest)")
    loaded: dict[str, Any] = _on(device, content)
    return loaded


def digest_of(content: Any) -> str:
    """Return the SHA-256 digest of tensors, numbers and texts in plain containers, of their types and their order."""
    digest = hashlib.sha256()
    _add(digest, content)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Add a value to a digest, preceded by its type and size, so that different contents cannot collide."""
    digest.update(f"{type(value).__name__}:".encode())
    if isinstance(value, Tensor):
        array = value.detach().to("cpu").resolve_conj().contiguous()
        digest.update(f"{array.dtype}{tuple(array.shape)}{value.requires_grad}".encode())
        # As bytes, since NumPy does not support all types.
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data if array.numel() else b"")
    elif isinstance(value, dict):
        digest.update(f"{len(value)}".encode())
        for key, item in value.items():
            _add(digest, key)
            _add(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}".encode())
        for item in value:
            _add(digest, item)
    else:
        text = repr(value).encode()
        digest.update(f"{len(text)}:".encode() + text)


def _on(device: torch.device | str, value: Any) -> Any:
    """Return the same content with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _on(device, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on(device, item) for item in value)
    return value
