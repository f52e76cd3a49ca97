"""Reads a scan in a thread while the user is still answering, and pictures it.

Knows the readers and the worker; no viewer and no other widget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from napari_d3ip.io import ReadOptions, read
from napari_d3ip.measurement import Measurement
from napari_d3ip.widgets.first_look import Picture, picture
from napari_d3ip.widgets.layer_source import LayerSource

DELAY = 300
"""Milliseconds without another change before a scan is read."""


@dataclass(frozen=True)
class Seen:
    """The file could be read."""

    measurement: Measurement
    picture: Picture


@dataclass(frozen=True)
class Unread:
    """The file could not be read, or leaves something open."""

    error: Exception


Answer = Seen | Unread
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
        Once for the latest request, unless it was withdrawn.
    """

    answered = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._wanted: _Request | None = None
        self._busy = False
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._start)

    def request(self, source: Source, given: Mapping[str, Any], delay: int = DELAY) -> None:
        """Read ``source`` with reading options after ``delay`` milliseconds, instead of what was requested before."""
        self._wanted = _Request(source, given)
        self._timer.start(delay)

    def withdraw(self) -> None:
        """Answer nothing."""
        self._wanted = None

    def _start(self) -> None:
        if self._busy or self._wanted is None:
            return  # Two large scans at once may not fit into memory: the end of the running one starts the next.
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
    """Body of the thread; returns errors, since napari's workers must not raise."""
    try:
        options, source = ReadOptions.create(request.given), request.source
        measurement = source.read(options) if isinstance(source, LayerSource) else read(source, options)
        return Seen(measurement, picture(measurement))
    except Exception as error:  # noqa: BLE001 - shown by the widget
        return Unread(error)
