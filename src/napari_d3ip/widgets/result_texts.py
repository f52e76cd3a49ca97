"""Save or copy a result without its volume: its run as text, its settings, its adapters.

Handles Qt's clipboard and dialogs; no viewers, no layers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from napari_d3ip.adaptation.folders import installed_folder
from napari_d3ip.errors import D3IPError, FileError
from napari_d3ip.reconstruction import Reconstruction
from napari_d3ip.reconstruction.reproduce import as_command, as_json, as_python
from napari_d3ip.widgets.notify import show_failure


def copy_as_python(result: Reconstruction) -> None:
    """Copy Python code that reproduces the result."""
    _copy(as_python(result.measurement, result.settings), "Python", result)


def copy_as_command(result: Reconstruction) -> None:
    """Copy the command line that reproduces the result."""
    _copy(as_command(result.measurement, result.settings), "command", result)


def save_settings(result: Reconstruction, parent: QWidget | None = None) -> None:
    """Ask for a file, and write the settings there as JSON."""
    proposed = f"{Path(result.measurement.source).stem}_{result.settings.method}.json"
    chosen, _ = QFileDialog.getSaveFileName(parent, "Save settings", proposed, "Settings (*.json)")
    if not chosen:
        return
    path = Path(chosen)
    try:
        path.write_text(as_json(result.settings), encoding="utf-8")
    except OSError as error:
        failure = FileError(f"{path} cannot be written ({error.strerror}); choose another folder.")
        show_failure(failure, "Save settings")
    else:
        show_info(f"Saved {path}.")


def save_adapter(result: Reconstruction, parent: QWidget | None = None) -> Path | None:
    """Ask for a name, and write the adapters of the result there as a PEFT folder; None if nothing was written.

    The proposed folder holds the adapters that the form offers for scans of the same kind.
    """
    with contextlib.suppress(OSError):  # The dialog then begins elsewhere.
        installed_folder().mkdir(parents=True, exist_ok=True)
    proposed = installed_folder() / f"{Path(result.measurement.source).stem}_{result.settings.method}"
    chosen, _ = QFileDialog.getSaveFileName(parent, "Save adapter", str(proposed))
    if not chosen:
        return None
    try:
        result.save_adapter(chosen)
    except D3IPError as error:
        show_failure(error, "Save adapter")
        return None
    show_info("Saved. The next scan of this kind can start from it; see adapter in the form.")
    return Path(chosen)


def _copy(text: str, kind: str, result: Reconstruction) -> None:
    early = "# The run was stopped early; this code runs to the end.\n" if result.metrics.get("stopped_early") else ""
    QApplication.clipboard().setText(early + text)
    show_info(f"Copied the {kind} of this result to the clipboard.")
