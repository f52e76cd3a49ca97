"""Make the screenshots in docs/images by clicking through the tutorials and an import.

Needs a screen, or xvfb: ``xvfb-run -s "-screen 0 1280x800x24" python scripts/make_screenshots.py [SERIES ...]``, where
SERIES is one of ct, mri, import, prior; all if none is given. The runs are those of ``preset=fast``: two minutes in
all on two free cores. Volumes are the same every time, the seconds in the pictures are not.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QLabel, QLineEdit, QPushButton, QWidget

from napari_d3ip.prior.library import BUNDLED
from napari_d3ip.samples import load_sample
from napari_d3ip.widgets.prior_preview import PriorPreview

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE = (1280, 800)
PATIENCE = 900.0
PLUGIN = "napari-d3ip"
NAME = "D3IP reconstruction"


def wait_until(condition: Callable[[], bool]) -> None:
    """Let Qt run until ``condition`` holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the viewer took too long")
        QApplication.processEvents()
        time.sleep(0.02)


def settle() -> None:
    """Let wrapped labels find their height, which takes Qt several rounds."""
    end = time.monotonic() + 1
    wait_until(lambda: time.monotonic() > end)


class Session:
    """A viewer, a user's hands, and a camera."""

    def __init__(self) -> None:
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*SIZE)
        self.dock: Any = None
        self.clicks = 0

    def child(self, kind: type[Any], name: str) -> Any:
        """Widget of the plugin with this name, in the last dock."""
        return self.dock.findChild(kind, name)

    def click(self, name: str) -> None:
        """Click a button of the dock."""
        button = self.child(QPushButton, name)
        if not button.isEnabled():
            raise RuntimeError(f"{name} cannot be clicked")
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.clicks += 1

    def open_dock(self, name: str) -> None:
        """As ``napari -w napari-d3ip NAME`` does."""
        _, self.dock = self.viewer.window.add_plugin_dock_widget(PLUGIN, name)

    def shoot(self, name: str) -> None:
        """Take a picture of the window, all layers in view."""
        self.viewer.window.resize(*SIZE)
        settle()
        self.viewer.reset_view()
        settle()
        self.viewer.screenshot(IMAGES / f"{name}.png", canvas_only=False, flash=False)


def reconstruct(session: Session, sample: str, shoot: Callable[[str], None] = lambda part: None) -> None:
    """The first part of both tutorials, with pictures of the scan and the run if they are wanted."""
    session.open_dock(NAME)
    session.clicks += 2  # Plugins, and the entry.
    session.click(f"sample_{sample}")
    session.child(QComboBox, "preset").setCurrentText("fast")
    device = session.child(QComboBox, "device")
    wait_until(lambda: device.currentText() != "auto")  # Another process lists what is there.
    shoot("scan")
    session.click("run")
    if session.clicks > 4:
        raise RuntimeError(f"the tutorials promise four clicks, these were {session.clicks}")
    status = session.child(QLabel, "status")
    wait_until(lambda: status.text().startswith("Sampling"))
    shoot("running")
    wait_until(session.child(QPushButton, "run").isEnabled)


def ct(session: Session) -> None:
    """Tutorial CT."""
    reconstruct(session, "chest_ct", lambda part: session.shoot(f"tutorial_ct_{part}"))
    session.shoot("widget")
    session.click("residual")
    wait_until(session.child(QPushButton, "residual").isEnabled)
    session.shoot("tutorial_ct_residual")


def mri(session: Session) -> None:
    """Tutorial MRI."""
    reconstruct(session, "brain_mri")
    session.shoot("widget_mri")
    session.child(QWidget, "phase").click()
    session.shoot("tutorial_mri_phase")


def import_kspace(session: Session) -> None:
    """Import of a file that does not say what its axes are."""
    session.open_dock("Import k-space")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        np.save("brain.npy", load_sample("brain-mri").data)
        session.child(QWidget, "path").findChild(QLineEdit).setText("brain.npy")
        axes = session.child(QComboBox, "axes")
        wait_until(lambda: "z (32)" in axes.itemText(1))
        axes.setCurrentIndex(1)
        thumbnail = session.child(QLabel, "thumbnail")
        wait_until(lambda: not thumbnail.pixmap().isNull())
        session.click("import")
        wait_until(lambda: len(session.viewer.layers) == 1)
    session.shoot("import_kspace")


def prior(session: Session) -> None:
    """The preview of a prior that is about to be added."""
    session.open_dock(NAME)
    preview = PriorPreview(BUNDLED / "phantom", session.dock)
    preview.open()
    pictures = preview.findChild(QLabel, "thumbnail")
    wait_until(lambda: not pictures.pixmap().isNull())
    settle()
    preview.grab().save(str(IMAGES / "add_prior.png"))
    preview.close()


SERIES: dict[str, Callable[[Session], None]] = {"ct": ct, "mri": mri, "import": import_kspace, "prior": prior}


def main(*names: str) -> None:
    """Take the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in names or SERIES:
        session = Session()
        SERIES[name](session)
        session.viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
