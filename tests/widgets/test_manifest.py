"""The manifest: every command resolves, every contribution names a command."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest

import napari_d3ip
from napari_d3ip.io.registry import formats

MANIFEST = PluginManifest.from_file(Path(napari_d3ip.__file__).parent / "napari.yaml")
COMMANDS = {command.id: command for command in MANIFEST.contributions.commands}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_resolves(name: str) -> None:
    module, attribute = str(COMMANDS[name].python_name).split(":")
    assert callable(getattr(import_module(module), attribute))


def test_contributions_name_commands() -> None:
    contributions = MANIFEST.contributions
    used = {
        entry.command
        for entries in (
            contributions.readers,
            contributions.writers,
            contributions.widgets,
            contributions.sample_data,
            contributions.menus["napari-d3ip/result"],
            contributions.menus["napari-d3ip/use"],
        )
        for entry in entries
    }
    assert used == set(COMMANDS)


def test_menu_is_one_that_plugins_may_add_to() -> None:
    from napari._app_model.constants._menus import is_menu_contributable

    assert all(is_menu_contributable(menu) for menu in MANIFEST.contributions.menus)
    entries = MANIFEST.contributions.menus["napari/layers/data"]
    assert [entry.submenu for entry in entries] == [submenu.id for submenu in MANIFEST.contributions.submenus]


def test_import_and_simulation_are_in_the_file_menu(make_napari_viewer_proxy: Callable[[], Any]) -> None:
    from napari._app_model import get_app_model

    make_napari_viewer_proxy()
    menus = get_app_model().menus
    for menu, names in (("io_utilities", {"import_sinogram", "import_kspace"}), ("acquire", {"simulate"})):
        offered = {item.command.id for item in menus.get_menu(f"napari/file/{menu}")}
        assert offered >= {f"napari-d3ip.{name}" for name in names}


def test_every_command_is_in_the_palette(make_napari_viewer_proxy: Callable[[], Any]) -> None:
    """With a title that begins as a sentence does, says what it is, and is no other's."""
    from napari._app_model import get_app_model

    make_napari_viewer_proxy()
    menus = get_app_model().menus
    titles = {item.command.id: item.command.title for item in menus.get_menu(menus.COMMAND_PALETTE_ID)}
    ours = [titles.get(name, "") for name in COMMANDS]
    assert len(set(ours)) == len(COMMANDS)
    assert all(title[:1].isupper() and " " in title and not title.endswith(".") for title in ours)
    samples = {
        sample.command for sample in MANIFEST.contributions.sample_data
    }  # napari adds the plugin to the others.
    assert all(titles[name].endswith(" (D3IP reconstruction)") for name in COMMANDS.keys() - samples)


def test_writer_knows_every_format_of_volumes() -> None:
    from napari_d3ip.io import volumes

    (writer,) = MANIFEST.contributions.writers
    assert set(writer.filename_extensions) == {*volumes._WRITERS, ".npz"}


def test_reader_is_asked_about_every_format() -> None:
    (reader,) = MANIFEST.contributions.readers
    assert set(reader.filename_patterns) >= {f"*{suffix}" for module in formats() for suffix in module.suffixes}


def test_installed_manifest_is_this_one() -> None:
    installed = PluginManifest.from_distribution("napari-d3ip")
    assert installed.contributions == MANIFEST.contributions


def test_link_at_the_top_of_the_repository() -> None:
    top = Path(__file__).parents[2] / "napari.yaml"
    assert top.read_text() == (Path(napari_d3ip.__file__).parent / "napari.yaml").read_text()
