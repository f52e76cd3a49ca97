"""The docks in a window of 1280 × 800: nothing is cut off or has to be scrolled sideways, in either theme.

What is looked at during a run needs no scrolling at all, and Run never does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from napari.layers import Layer
from qtpy.QtCore import QCoreApplication, QEvent, QPoint, Qt
from qtpy.QtWidgets import QLineEdit, QScrollArea, QWidget

from napari_d3ip.errors import SettingsError
from napari_d3ip.io import LayoutQuestion
from napari_d3ip.widgets.docking import dock_of
from napari_d3ip.widgets.layers import measurement_layer

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

    from napari_d3ip.measurement import KSpace, Sinogram

PLUGIN, WIDGET = "napari-d3ip", "D3IP reconstruction"
SIZE = (1280, 800)
MOST = SIZE[0] / 2.5
"""What a dock may take of the window's width."""
LOSSES: dict[str, float | None] = {"loss": 30.0, "held_out_loss": 1.5, "held_out_loss_without": 1.6}
LEAST_CONTRAST = 3.0


@pytest.fixture(params=["dark", "light"])
def open_dock(
    request: pytest.FixtureRequest, make_napari_viewer_proxy: Callable[..., Any], make_bench: Callable[..., Bench]
) -> Callable[[str], Bench]:
    """Opens a dock widget in a window of that size, in each theme."""

    def open_(name: str) -> Bench:
        viewer = make_napari_viewer_proxy(show=True)
        viewer.theme = request.param
        viewer.window.resize(*SIZE)
        _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        return make_bench(viewer, widget)

    return open_


def check_width(bench: Bench) -> None:
    """Once the layout has settled, the dock leaves room for the volume, and shows all that it has."""

    try:
        bench.wait(lambda: bench.widget.width() < MOST and not cut_off(bench.widget), timeout=60_000)
    except bench.qtbot.TimeoutError:
        pytest.fail(f"{bench.widget.width()} pixels wide; cut off: {cut_off(bench.widget)}")


def cut_off(widget: QWidget) -> list[str]:
    """Parts of a dock that are not wholly within its width, and bars to scroll sideways."""
    tell_layouts()
    found = [f"bar of {area.objectName()}" for area in scroll_areas(widget) if area.horizontalScrollBar().isVisible()]
    for area in scroll_areas(widget):
        inside = area.viewport()
        if area.widget().minimumSizeHint().width() > inside.width():
            found.append(f"{area.widget().minimumSizeHint().width()} of content in {inside.width()}")
        for part in area.widget().findChildren(QWidget):
            left = part.mapTo(area.widget(), QPoint(0, 0)).x()
            if part.objectName() and part.isVisible() and left + part.width() > inside.width():
                found.append(part.objectName())
    return found


def tell_layouts() -> None:
    """Tell all layouts what was shown or hidden, so that nothing is seen where it was before."""
    QCoreApplication.sendPostedEvents(None, int(QEvent.Type.LayoutRequest))


def scroll_areas(widget: QWidget) -> list[Any]:
    """Those of the docks; lists, tables and plots scroll within themselves."""
    return [area for area in widget.findChildren(QScrollArea) if area.isVisible() and area.widget() is not None]


@pytest.mark.parametrize("name", ["Import k-space", "Simulate measurement"])
def test_other_docks(open_dock: Callable[[str], Bench], name: str) -> None:
    bench = open_dock(name)
    check_width(bench)


def test_every_state(
    open_dock: Callable[[str], Bench], measurement: Sinogram, k_space: KSpace, engine: FakeEngine
) -> None:
    """Empty, a scan chosen, everything open, something wrong, running with curves, done, compared."""
    engine.losses = {2: LOSSES}
    bench = open_dock(WIDGET)
    check_width(bench)
    for scan in (measurement, k_space):
        bench.viewer.add_layer(Layer.create(*measurement_layer(scan)))
        check_width(bench)
    bench.click("advanced_title")
    bench.type("steps", "many more than there are")
    check_width(bench)
    reason = bench.child("why_not").palette()
    assert contrast(reason.windowText().color(), reason.window().color()) > LEAST_CONTRAST
    bench.type("steps", "3")
    bench.click("run")
    engine.advance(3)
    bench.wait(lambda: "step 3" in bench.child("status").text())
    assert bench.child("curves").isVisible()
    check_width(bench)
    engine.advance(2)
    bench.wait_idle()
    volume = bench.viewer.layers["square [d3ip]"]
    bench.viewer.add_image(volume.data + 0.1, name="a reference volume with a name that is long")
    bench.choose("reference", "a reference")
    bench.click("compare")
    bench.wait(lambda: bench.child("scores").isVisible())
    check_width(bench)


def out_of_sight(bench: Bench, *names: str) -> list[str]:
    """Those of some widgets that are not wholly seen as the dock is scrolled now."""
    tell_layouts()
    return [name for name in names if not is_in_sight(bench.child(name))]


def is_in_sight(part: Any) -> bool:
    return part.isVisible() and part.visibleRegion().boundingRect() == part.rect()


@pytest.mark.parametrize("scans", [1, 2])
def test_run_needs_no_scrolling(
    open_dock: Callable[[str], Bench], measurement: Sinogram, k_space: KSpace, engine: FakeEngine, scans: int
) -> None:
    engine.losses = {2: LOSSES}
    bench = open_dock(WIDGET)
    for scan in (measurement, k_space)[:scans]:
        bench.viewer.add_layer(Layer.create(*measurement_layer(scan)))
    bench.wait(lambda: not out_of_sight(bench, "layer", "settings", "run", "progress"))
    bench.click("run")
    engine.advance(3)
    bench.wait(lambda: "step 3" in bench.child("status").text())
    seen = ("layer", "live_preview", "pause", "keep", "cancel", "progress", "status", "disclaimer", "legend", "plot")
    bench.wait(lambda: not out_of_sight(bench, *seen))
    engine.advance(2)
    bench.wait_idle()
    # What is estimated comes later, and takes room above.
    bench.wait(lambda: bench.child("placement").isVisible())
    after = ("placement", "run", "status", "metrics", "plot", "result_panel")
    bench.wait(lambda: not out_of_sight(bench, *after))
    bench.click("advanced_title")
    bench.wait(lambda: bench.child("reset").isVisible() and bool(out_of_sight(bench, "result_panel")))


def test_run_stays_in_sight(open_dock: Callable[[str], Bench], measurement: Sinogram, engine: FakeEngine) -> None:
    """With everything open and more to say than there is room for; a click where it was hits it again."""
    engine.error = SettingsError("coil_maps: there is no centre of k-space to make maps of; give others. " * 50)
    bench = open_dock(WIDGET)
    bench.viewer.add_layer(Layer.create(*measurement_layer(measurement)))
    bench.click("advanced_title")
    seen = ("layer", "method", "progress", "live_preview", "run", "pause", "keep", "cancel", "disclaimer")
    bench.wait(lambda: bench.child("reset").isVisible() and not out_of_sight(bench, *seen))
    run, status = bench.child("run"), bench.child("status")
    place = run.mapTo(run.window(), run.rect().center())
    for _ in range(2):
        click_at(bench, place)
        bench.wait(bench.child("cancel").isEnabled)
        engine.advance()
        bench.wait_idle()
        assert status.text().startswith("Stopped by an error: coil_maps:")
        bench.wait(lambda: status.height() >= status.heightForWidth(status.width()))
        bench.wait(lambda: not out_of_sight(bench, "advanced_title", "status", *seen))


def click_at(bench: Bench, place: QPoint) -> None:
    """Click in the window, whatever is there."""
    bench.qtbot.mouseClick(bench.widget.window().windowHandle(), Qt.MouseButton.LeftButton, pos=place)


def contrast(one: Any, other: Any) -> float:
    """Contrast of two colours, after WCAG 2.1."""

    def luminance(colour: Any) -> float:
        parts = [channel / 255 for channel in (colour.red(), colour.green(), colour.blue())]
        red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


LEAST_SCREEN = 700
"""Height that the window must fit into."""


def test_all_docks_fit_on_the_screen(
    make_napari_viewer_proxy: Callable[..., Any], make_bench: Callable[..., Bench], measurement: Sinogram
) -> None:
    """They are tabs: one below the other they would push the window off it."""
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(*SIZE)
    viewer.add_layer(Layer.create(*measurement_layer(measurement)))
    names = ["D3IP reconstruction", "Import sinogram", "Import k-space", "Prepare image stack", "Simulate measurement"]
    widgets = [viewer.window.add_plugin_dock_widget(PLUGIN, name)[1] for name in names]
    window = widgets[0].window()
    bench = make_bench(viewer, widgets[-1])
    bench.wait(lambda: all(len(window.tabifiedDockWidgets(dock_of(widget))) == len(names) - 1 for widget in widgets))
    tell_layouts()
    assert window.minimumSizeHint().height() < LEAST_SCREEN
    assert not widgets[-1].visibleRegion().isEmpty()  # The last one that was opened.
    assert widgets[0].visibleRegion().isEmpty()


@pytest.mark.parametrize("needed", ["angles", "image_shape"])
def test_field_in_question_is_seen(
    make_napari_viewer_proxy: Callable[..., Any], make_bench: Callable[..., Bench], needed: str
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1000, 500)
    name = {"angles": "Import sinogram", "image_shape": "Import k-space"}[needed]
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    bench = make_bench(viewer, widget)
    widget.ask("scan.npy", LayoutQuestion(f"{needed}: scan.npy does not say.", needs=needed))
    field = bench.child(needed)
    line = field if needed == "image_shape" else field.findChild(QLineEdit)
    bench.wait(lambda: is_in_sight(line))
    assert "border" in line.styleSheet()
    bench.wait(lambda: line.window().focusWidget() == line)  # Has it once the window is active.
