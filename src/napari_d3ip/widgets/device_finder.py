"""Finds out, in the background, which devices this machine has.

Another process is asked: this one does not load torch for it, and leaves no memory taken on GPUs. Knows no viewer and
no other widget.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

PATIENCE = 60
"""Most seconds to wait for the answer."""
logger = logging.getLogger(__name__)


class DeviceFinder(QObject):
    """Lists devices once for every `look`.

    Signals
    -------
    found(dict of str to str)
        As `napari_d3ip.device.available_devices`; not sent where that fails.
    """

    found = Signal(object)

    def look(self) -> None:
        """Start to look; returns at once."""
        worker = create_worker(_ask, _start_thread=False)
        worker.returned.connect(self._report)
        worker.start()

    def _report(self, devices: dict[str, str] | None) -> None:
        if devices is not None:
            self.found.emit(devices)


def _ask() -> dict[str, str] | None:
    """Body of the thread; returns None on failure, since napari's workers must not raise."""
    command = [sys.executable, "-m", "napari_d3ip.device"]
    no_window = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows would open a console.
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE, creationflags=no_window
        )
        return dict(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        logger.warning("The devices of this machine could not be listed", exc_info=True)
        return None
