"""Button *Check scan*: what is wrong with the description of a scan, and the scan as a check suggests it.

Handles scans; no layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.io import read
from napari_d3ip.io.answers import write_answers
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.reader_process import in_own_process
from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.scan_reader import ReadFailed

if TYPE_CHECKING:
    from napari_d3ip.checking import Report

    Answer = Report | Measurement | ReadFailed


class CheckScan(QWidget):
    """What a check of a scan has found, hidden until then, and the button that starts one.

    Parameters
    ----------
    update_measurement : callable
        Returns the current scan when the button is clicked, or None.

    Attributes
    ----------
    button : QPushButton
        *Check scan*.

    Signals
    -------
    opened(Measurement)
        The scan was read again as suggested.
    """

    opened = Signal(object)

    def __init__(self, update_measurement: Callable[[], Measurement | None]) -> None:
        super().__init__()
        self._update_measurement = update_measurement
        self._scan: Measurement | None = None
        self._report: Report | None = None
        self.button = QPushButton("Check scan", objectName="check_scan")
        self.button.setToolTip(
            "Find out whether views left out are predicted better with another rotation axis, other angles or values, "
            "or without bad pixels; in seconds."
        )
        self.button.clicked.connect(self._start)
        self._text = QLabel(objectName="check_text")
        self._text.setWordWrap(True)
        self._open = QPushButton("Open as suggested", objectName="check_open")
        self._open.setToolTip("Read the scan again with these options, as another layer.")
        self._open.clicked.connect(self._read_again)
        self._keep = QPushButton("Keep beside the file", objectName="check_keep")
        self._keep.setToolTip("Write the options into a file beside the scan, which every reader takes.")
        self._keep.clicked.connect(self._write)
        buttons = QHBoxLayout()
        for part in (self._open, self._keep):
            buttons.addWidget(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        layout.addLayout(buttons)
        self.hide()

    def show_for(self, scan: Measurement | None) -> None:
        """Offer to check a scan; what was found for another one is hidden."""
        self.button.setVisible(isinstance(scan, Sinogram | KSpace))
        if scan is not self._scan:
            self._scan, self._report = scan, None
            self.hide()

    def _start(self) -> None:
        self._scan = self._update_measurement()
        if self._scan is not None:
            self._run("Checking…", _checked, self._scan)

    def _read_again(self) -> None:
        if self._scan is not None and self._scan.origin is not None and self._report is not None:
            options = {**self._scan.origin.options, **self._report.options}
            self._run("Reading…", _read, Path(self._scan.origin.path), options)

    def _write(self) -> None:
        if self._scan is None or self._scan.origin is None or self._report is None:
            return
        try:
            path = Path(self._scan.origin.path)
            write_answers(path, ReadOptions.create(self._scan.origin.options), self._report.options)
        except D3IPError as error:
            show_failure(error, "Check scan")
        else:
            self._say(f"{self._text.text()}\nKept beside {path.name}.")

    def _run(self, doing: str, function: Callable[..., Answer], *arguments: Any) -> None:
        """Call a function in a thread; its answer counts while the scan is the same."""
        self.button.setEnabled(False)
        self._say(doing)
        worker = create_worker(function, *arguments, _start_thread=False)
        worker.returned.connect(partial(self._show, self._scan))
        worker.start()

    def _show(self, scan: Measurement | None, answer: Answer) -> None:
        self.button.setEnabled(True)
        if scan is not self._scan:
            return
        if isinstance(answer, ReadFailed):
            self.hide()
            show_failure(answer.error, "Check scan")
        elif isinstance(answer, Measurement):
            self.hide()
            self.opened.emit(answer)
        else:
            self._report = answer
            self._say(_sentences(answer), offers=bool(answer.options) and scan is not None and scan.origin is not None)

    def _say(self, text: str, *, offers: bool = False) -> None:
        self._text.setText(text)
        for part in (self._open, self._keep):
            part.setVisible(offers)
        self.show()


def _checked(scan: Measurement) -> Answer:
    """Check in the thread; return errors, since napari's workers must not raise."""
    from napari_d3ip.checking import check  # Loads torch.

    try:
        return check(scan)
    except Exception as error:  # noqa: BLE001 - shown by the widget
        return ReadFailed(error)


def _read(path: Path, options: dict[str, Any]) -> Answer:
    try:
        return in_own_process(read, path, ReadOptions.create(options))
    except Exception as error:  # noqa: BLE001 - shown by the widget
        return ReadFailed(error)


def _sentences(report: Report) -> str:
    if not report.suggestions and not report.predicts:
        return (
            "Views left out are predicted badly, but nothing that was tried is better: something may be wrong that is "
            "not looked for, or there are too few views to tell."
        )
    if not report.suggestions:
        return "Nothing is better otherwise: the scan is described as its views say."
    return "\n".join(f"{each.why[0].upper()}{each.why[1:]} ({', '.join(each.set)})." for each in report.suggestions)
