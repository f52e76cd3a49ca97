"""List the devices of this machine in the background.

A separate process loads torch, so that this one neither waits nor keeps GPU memory allocated. No viewers, no other
widgets.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

PATIENCE = 60
"""Maximum seconds to wait for the process."""
logger = logging.getLogger(__name__)


class DeviceFinder(QObject):
    """Lists devices once per call of `start`.

    Signals
    -------
    found(dict of str to str)
        As from `napari_d3ip.device.available_devices`; not emitted on failure.
    """

    found = Signal(object)

    def start(self) -> None:
        """Start the search; return at once."""
        worker = create_worker(_list_devices, _start_thread=False)
        worker.returned.connect(self._report)
        worker.start()

    def _report(self, devices: dict[str, str] | None) -> None:
        if devices is not None:
            self.found.emit(devices)


def _list_devices() -> dict[str, str] | None:
    """Run in the thread; return None on failure, since napari's workers must not raise."""
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
