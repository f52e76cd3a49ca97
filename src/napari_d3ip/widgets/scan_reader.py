"""Read a scan in a thread while the user fills in a form, and draw a picture of it.

Handles the readers and the worker; no viewers, no other widgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from napari_d3ip.io import ReadOptions, read
from napari_d3ip.io.reader_process import in_own_process
from napari_d3ip.measurement import Measurement
from napari_d3ip.widgets.layer_source import LayerSource
from napari_d3ip.widgets.scan_summary import Picture, picture

DELAY = 300
"""Milliseconds without another change before a scan is read."""


@dataclass(frozen=True)
class ScanRead:
    """The file was read."""

    measurement: Measurement
    picture: Picture


@dataclass(frozen=True)
class ReadFailed:
    """The file could not be read, or leaves something open."""

    error: Exception


Answer = ScanRead | ReadFailed
Source = str | LayerSource
"""Path of a file, or a layer."""


@dataclass(frozen=True, eq=False)
class _Request:
    source: Source
    given: Mapping[str, Any]


class ScanReader(QObject):
    """Reads one scan at a time; only the latest request is answered.

    Signals
    -------
    answered(Answer)
        Emitted once for the latest request, unless it was withdrawn.
    """

    answered = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._wanted: _Request | None = None
        self._busy = False
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._start)

    def request(self, source: Source, given: Mapping[str, Any], delay: int = DELAY) -> None:
        """Read ``source`` with reading options after ``delay`` milliseconds, replacing earlier requests."""
        self._wanted = _Request(source, given)
        self._timer.start(delay)

    def withdraw(self) -> None:
        """Drop the pending request."""
        self._wanted = None

    def _start(self) -> None:
        if self._busy or self._wanted is None:
            return  # Two large scans may not fit into memory: the end of the running read starts the next.
        self._busy = True
        worker = create_worker(_read, self._wanted, _start_thread=False)
        worker.returned.connect(partial(self._finish, self._wanted))
        worker.start()

    def _finish(self, request: _Request, answer: Answer) -> None:
        self._busy = False
        if request is self._wanted:
            self.answered.emit(answer)
        elif not self._timer.isActive():
            self._start()


def _read(request: _Request) -> Answer:
    """Read in the thread; return errors, since napari's workers must not raise."""
    try:
        options, source = ReadOptions.create(request.given), request.source
        if isinstance(source, LayerSource):
            measurement = source.read(options)
        else:
            measurement = in_own_process(read, Path(source), options)
        return ScanRead(measurement, picture(measurement))
    except Exception as error:  # noqa: BLE001 - shown by the widget
        return ReadFailed(error)
