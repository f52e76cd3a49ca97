"""Make the screenshots in docs/images by clicking through the tutorials and an import; or of every state, to look at.

Needs a screen, or xvfb: ``xvfb-run -s "-screen 0 1280x800x24" python scripts/make_screenshots.py [SERIES ...]``, where
SERIES is one of ct, mri, import, prior, which the documentation shows (all of them if none is given), or states:
empty, scan, wrong value, running, unfolded, paused, done, side by side, error, simulation and import. For both themes:
``... states --to /tmp/dark`` and ``... states --theme light --to /tmp/light``. The runs are those of ``preset=fast``:
two minutes in all on two free cores, and as long for the states of each theme. Volumes are the same every time, the
seconds in the pictures are not.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QLabel, QLineEdit, QPushButton, QWidget

from napari_d3ip.measurement import KSpace
from napari_d3ip.prior.library import BUNDLED
from napari_d3ip.samples import load_sample
from napari_d3ip.widgets.layers import measurement_layer
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

    def __init__(self, theme: str, folder: Path) -> None:
        self.viewer = napari.Viewer(show=True)
        self.viewer.theme = theme
        self.viewer.window.resize(*SIZE)
        self._folder = folder
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

    def close_dock(self) -> None:
        """Close the last dock."""
        self.viewer.window.remove_dock_widget(self.dock)

    def wait_for(self, status: str) -> None:
        """Wait for a status of the run that begins so."""
        line = self.child(QLabel, "status")
        wait_until(lambda: line.text().startswith(status))

    def shoot(self, name: str) -> None:
        """Take a picture of the window, all layers in view."""
        self.viewer.window.resize(*SIZE)
        settle()
        self.viewer.reset_view()
        settle()
        self.viewer.screenshot(self._folder / f"{name}.png", canvas_only=False, flash=False)

    def grab(self, window: QWidget, name: str) -> None:
        """Take a picture of another window."""
        settle()
        window.grab().save(str(self._folder / f"{name}.png"))


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
    session.wait_for("Sampling")
    shoot("running")
    session.wait_for("Done")


def ct(session: Session) -> None:
    """Tutorial CT."""
    reconstruct(session, "chest_ct", lambda part: session.shoot(f"tutorial_ct_{part}"))
    session.click("settings_title")  # All of the rest is in view then.
    session.shoot("widget")
    session.click("residual")
    wait_until(session.child(QPushButton, "residual").isEnabled)
    session.shoot("tutorial_ct_residual")


def mri(session: Session) -> None:
    """Tutorial MRI."""
    reconstruct(session, "brain_mri")
    session.click("settings_title")
    session.shoot("widget_mri")
    session.click("settings_title")
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
    session.grab(preview, "add_prior")
    preview.close()


def states(session: Session) -> None:
    """Every state of every dock, in the order in which a user may see them."""
    session.open_dock(NAME)
    session.shoot("empty")
    session.click("sample_chest_ct")
    session.child(QComboBox, "preset").setCurrentText("fast")
    device = session.child(QComboBox, "device")
    wait_until(lambda: device.currentText() != "auto")
    placement = session.child(QLabel, "placement")
    wait_until(lambda: bool(placement.text()))
    session.shoot("scan")
    before_and_during(session)
    session.click("slices_here")
    session.click("compare_methods")
    session.wait_for("Done")
    session.shoot("side_by_side")
    session.viewer.canvas.grid.enabled = False
    session.viewer.layers.clear()
    error(session)
    session.viewer.layers.clear()
    session.close_dock()
    simulation(session)
    session.viewer.layers.clear()
    session.close_dock()
    import_kspace(session)


def before_and_during(session: Session) -> None:
    """A value that is not possible, and a run with all its buttons."""
    session.click("advanced_title")
    weight = session.child(QLineEdit, "tv_weight")
    weight.setText("much")
    session.shoot("wrong_value")
    weight.setText("")
    session.click("advanced_title")
    session.click("run")
    session.wait_for("Sampling")
    session.shoot("running")
    session.click("pause")
    session.shoot("paused")
    session.click("pause")
    session.click("settings_title")
    session.shoot("running_unfolded")
    session.click("settings_title")
    session.click("settings_title")
    session.wait_for("Done")
    session.shoot("done")


def error(session: Session) -> None:
    """A scan that no coil maps can be made of."""
    scan = load_sample("brain-mri")
    centre = scan.data.shape[-2] // 2
    data = scan.data[:4].copy()
    data[:, :, centre - 16 : centre + 16] = 0
    scan = KSpace(data, source="no centre")
    session.viewer.add_layer(Layer.create(*measurement_layer(scan)))
    session.click("run")
    session.wait_for("Stopped by an error")
    session.shoot("error")


def simulation(session: Session) -> None:
    """A scan of a volume."""
    z, y, x = np.ogrid[-1:1:16j, -1.2:1.2:96j, -1.2:1.2:96j]
    session.viewer.add_image((x**2 + y**2 + z**2 < 1).astype(np.float32), name="ball")
    session.open_dock("Simulate measurement")
    session.shoot("simulate")
    session.click("simulate")
    session.wait_for("Added")
    session.shoot("simulated")


DOCS: dict[str, Callable[[Session], None]] = {"ct": ct, "mri": mri, "import": import_kspace, "prior": prior}
SERIES = {**DOCS, "states": states}


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", nargs="*", metavar="SERIES", help=", ".join(SERIES))
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="FOLDER", help="default: docs/images")
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    for name in asked.series or DOCS:
        session = Session(asked.theme, asked.to.resolve())
        SERIES[name](session)
        session.viewer.close()


if __name__ == "__main__":
    main()
