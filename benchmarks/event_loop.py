"""How late napari's event loop is while a run shows previews, beside the same loop without a run.

    xvfb-run python benchmarks/event_loop.py [--seconds 20] [--repeats 3]

A timer ticks every few milliseconds; how late it comes is what a user feels as stutter. Phases with and without a run
follow each other in one process and one window, so that other load on the machine meets both alike. Printed are the
95th percentile and the median of the delays of both, and their ratios. The run makes steps with previews as quickly
as it can, by numpy work that holds the interpreter as a run does; it is not a reconstruction.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Generator

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QPushButton

from napari_d3ip.measurement import Measurement, Sinogram
from napari_d3ip.reconstruction import Control, Reconstruction, Step
from napari_d3ip.settings import Settings
from napari_d3ip.widgets import runner
from napari_d3ip.widgets.layers import measurement_layer

TICK = 5
"""Milliseconds between two ticks."""
SHAPE, WORK = (32, 128, 128), 12
ENDLESS = 10**6


def busy_engine(
    measurement: Measurement, settings: Settings, *, control: Control
) -> Generator[Step, None, Reconstruction]:
    """Yield steps with previews as fast as they can be made, until the run is to end."""
    volume = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    index = 0
    while not control.kept:
        control.check()
        index += 1
        for _ in range(WORK):
            volume = np.sqrt(volume)
        phase = "sampling" if index % 10 else "adaptation"
        yield Step(index, ENDLESS, phase, loss=1.5, held_out_loss=1.2, eta_seconds=1.0, preview=volume)
    return Reconstruction(volume, settings, [], {}, measurement)


def delays(seconds: float) -> np.ndarray:
    """How late the event loop was at every tick, in milliseconds."""
    late: list[float] = []
    last = time.perf_counter()

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        late.append(1000 * (now - last) - TICK)
        last = now

    timer, loop = QTimer(interval=TICK), QEventLoop()
    timer.timeout.connect(tick)
    timer.start()
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()
    timer.stop()
    return np.array(late)


def compare(seconds: float, repeats: int) -> dict[str, np.ndarray]:
    """Delays without and with a run, in turn."""
    runner.iter_reconstruct = busy_engine  # type: ignore[assignment]
    viewer = napari.Viewer()
    scan = Sinogram(np.ones((SHAPE[0], 6, SHAPE[2]), np.float32), np.linspace(0, 150, 6), source="ones")
    viewer.add_layer(Layer.create(*measurement_layer(scan)))
    _, widget = viewer.window.add_plugin_dock_widget("napari-d3ip", "D3IP reconstruction")
    run, keep = (widget.findChild(QPushButton, name) for name in ("run", "keep"))
    found: dict[str, list[np.ndarray]] = {"without a run": [], "with a run": []}
    delays(1)  # What the window still has to do.
    for _ in range(repeats):
        found["without a run"].append(delays(seconds))
        run.click()
        found["with a run"].append(delays(seconds))
        keep.click()
        while not run.isEnabled():
            delays(0.1)
    viewer.close()
    return {name: np.concatenate(parts) for name, parts in found.items()}


def main() -> None:
    """Print the delays and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of a phase")
    parser.add_argument("--repeats", type=int, default=3, help="phases of each kind")
    given = parser.parse_args()
    found = compare(given.seconds, given.repeats)
    quantiles = {name: np.quantile(late, (0.5, 0.95)) for name, late in found.items()}
    for name, (median, high) in quantiles.items():
        print(f"{name}: median {median:.1f} ms, 95 % below {high:.1f} ms, {len(found[name])} ticks")
    # A loop that is never late has delays about 0: ratios are those of the intervals between two ticks.
    median, high = (quantiles["with a run"] + TICK) / (quantiles["without a run"] + TICK)
    print(f"ratio of the intervals: median {median:.2f}, 95th percentile {high:.2f}")


if __name__ == "__main__":
    main()
