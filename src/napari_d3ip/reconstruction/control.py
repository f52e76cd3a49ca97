"""Progress of a run, and the caller's control over it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from napari_d3ip.measurement import FloatArray


class Cancelled(Exception):
    """Raised inside a reconstruction that the caller cancelled."""


class Control:
    """Control of a running reconstruction, safe to use from another thread.

    The engine polls it in every inner iteration: `cancel` raises `Cancelled` there, `pause` holds it until `resume`.
    `keep` ends the run after the step under way, with the best volume so far.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._kept = threading.Event()
        self._running = threading.Event()
        self._running.set()

    def cancel(self) -> None:
        """Stop and discard."""
        self._cancelled.set()
        self._running.set()

    def keep(self) -> None:
        """Stop and keep what there is."""
        self._kept.set()
        self._running.set()

    def pause(self) -> None:
        """Hold at the next inner iteration, unless it is to stop anyway."""
        self._running.clear()
        if self._cancelled.is_set() or self._kept.is_set():
            self._running.set()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._running.set()

    @property
    def kept(self) -> bool:
        """Return whether `keep` was called."""
        return self._kept.is_set()

    def check(self) -> None:
        """Wait while paused.

        Raises
        ------
        Cancelled
            If `cancel` was called.
        """
        self._running.wait()
        if self._cancelled.is_set():
            raise Cancelled


@dataclass(frozen=True)
class Step:
    """Step of a running reconstruction.

    Parameters
    ----------
    index, total : int
        Steps done, and in all; ``index`` runs from 1 to ``total``.
    phase : str
        What was done: ``"first reconstruction"``, ``"adaptation"``, ``"refinement"``, ``"sampling"``,
        ``"iteration"``.
    loss, held_out_loss : float or None
        Mean squared residual on the rays used, and on held-out rays, in units of the noise variance; in an
        adaptation step the loss itself, and that of the adapted network.
    held_out_loss_without : float or None
        In an adaptation step, the loss on held-out rays of the pretrained prior.
    lora_shift : float or None
        Relative size of the adapters' change of the weights.
    eta_seconds : float or None
        Estimated seconds to the end.
    preview : ndarray or None
        Current volume (z, y, x), float32, in the measurement's units.
    """

    index: int
    total: int
    phase: str
    loss: float | None = None
    held_out_loss: float | None = None
    held_out_loss_without: float | None = None
    lora_shift: float | None = None
    eta_seconds: float | None = None
    preview: FloatArray | None = field(default=None, repr=False)
