"""Commands of the Layers menu and the command palette for the selected result.

Handles the viewer's window, the dock widget, and how to find one from the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari import current_viewer

from napari_d3ip.errors import D3IPError
from napari_d3ip.reconstruction import Reconstruction
from napari_d3ip.widgets import result_texts
from napari_d3ip.widgets.layers import result_of
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

PLUGIN, WIDGET = "napari-d3ip", "D3IP reconstruction"


def copy_as_python() -> None:
    """Copy Python code that reproduces the selected result."""
    _with_result(result_texts.copy_as_python)


def copy_as_command() -> None:
    """Copy the command line that reproduces the selected result."""
    _with_result(result_texts.copy_as_command)


def save_settings() -> None:
    """Write the settings of the selected result as JSON."""
    _with_result(result_texts.save_settings)


def save_adapter() -> None:
    """Write the adapters of the selected result as a PEFT folder, which the form then offers."""
    _with_result(lambda _: _dock_widget().results.save_adapter())


def run_again() -> None:
    """Load the settings of the selected result into the dock widget, and run."""
    _with_result(lambda _: _dock_widget().results.run_again())


def add_residual() -> None:
    """Add the residual of the selected result."""
    _with_result(lambda _: _dock_widget().results.add_residual())


def add_uncertainty() -> None:
    """Add mean and standard deviation of the selected result over several seeds."""
    _with_result(lambda _: _dock_widget().results.add_uncertainty())


def _with_result(act: Callable[[Reconstruction], Any]) -> None:
    viewer = current_viewer()
    layer = None if viewer is None else viewer.layers.selection.active
    result = None if layer is None else result_of(layer)
    if result is None:
        error = D3IPError("Select the layer of a reconstructed volume first, not a layer derived from one.")
        show_failure(error, "Result")
        return
    act(result)


def _dock_widget() -> ReconstructionWidget:
    """Return the dock widget of the viewer; open it if necessary."""
    window = current_viewer().window
    for widget in window.dock_widgets.values():
        if isinstance(widget, ReconstructionWidget):
            return widget
    _, opened = window.add_plugin_dock_widget(PLUGIN, WIDGET)
    return opened
