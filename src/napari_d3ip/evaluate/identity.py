"""What tells rows apart besides the scan and the settings: the weights in use, and the code that computes them."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import napari_d3ip
from napari_d3ip.measurement import Measurement
from napari_d3ip.prior.library import find_prior
from napari_d3ip.reconstruction.checkpoint import fingerprint
from napari_d3ip.reconstruction.resolve import fill_in
from napari_d3ip.settings import METHODS, Settings

_WEIGHTS = (".bin", ".json", ".safetensors")
# Rooms that change no number: interfaces, and the tables themselves.
_NO_NUMBERS = ("__main__.py", "_napari_hooks.py", "cli", "evaluate", "widgets")


def row_key(measurement: Measurement, settings: Settings, reference: bytes = b"") -> str:
    """Name of a row: scan, settings, reference, and the contents of the prior and the adapters that it uses.

    Raises
    ------
    D3IPError
        If the settings do not fit the scan, or there is no such prior.
    """
    digest = hashlib.sha256(fingerprint(measurement, settings).encode())
    digest.update(reference)
    if METHODS[settings.method].needs_prior:
        digest.update(_content(find_prior(fill_in(settings, measurement).prior)))
        if settings.adapter is not None:
            digest.update(_content(Path(settings.adapter)))
    return digest.hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """Digest of the source code that decides the numbers; the version alone stays while one works on it."""
    package = Path(napari_d3ip.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        part = path.relative_to(package)
        if part.parts[0] not in _NO_NUMBERS and part.name != "reproduce.py":
            digest.update(part.as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _content(folder: Path) -> bytes:
    """Digest of the weights and configurations in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _WEIGHTS:
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.digest()
