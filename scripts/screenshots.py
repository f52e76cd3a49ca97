"""Make docs/images/widget.png: the viewer with a sample, the docked widget and a result.

Needs a screen, or xvfb: ``xvfb-run -s "-screen 0 1280x800x24" python scripts/screenshots.py [METHOD]``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication, QPushButton, QWidget

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE = (1280, 800)
PATIENCE = 600.0


def wait_for(button: QPushButton) -> None:
    """Let Qt run until ``button`` can be clicked (again)."""
    end = time.monotonic() + PATIENCE
    while not button.isEnabled():
        if time.monotonic() > end:
            raise TimeoutError("the reconstruction took too long")
        QApplication.processEvents()
        time.sleep(0.02)


def main(method: str = "d3ip") -> None:
    """Reconstruct the chest CT by clicking Run, and take the picture."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    viewer.open_sample("napari-d3ip", "chest_ct")
    _, widget = viewer.window.add_plugin_dock_widget("napari-d3ip", "D3IP reconstruction")
    chosen = widget.findChild(QWidget, "method")
    chosen.setCurrentText(method)
    run = widget.findChild(QPushButton, "run")
    run.click()
    wait_for(run)
    viewer.reset_view()
    viewer.window.resize(*SIZE)
    QApplication.processEvents()
    IMAGES.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(IMAGES / "widget.png", canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
