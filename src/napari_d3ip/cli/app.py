"""The program, and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_d3ip.settings import PRESETS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings={"max_content_width": 100})
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"A setting (preset={'|'.join(PRESETS)}, steps=16, ...), or what FILE lacks "
        "(angles=ANGLES.txt, axes=zad, center=63.5); may be repeated.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"napari-d3ip {version('napari-d3ip')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sparse-view and limited-angle CT and accelerated MRI with an adaptive diffusion prior.

    The volumes are model-based estimates; they are not for diagnosis.
    """
