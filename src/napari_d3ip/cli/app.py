"""The program, and options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeVar

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


class Command(Protocol):
    """A command whose arguments and options are the fields of a dataclass."""

    def run(self) -> None:
        """Do what the command is for."""


_Kind = TypeVar("_Kind", bound=Command)


def command(program: typer.Typer, name: str) -> Callable[[type[_Kind]], type[_Kind]]:
    """Register a dataclass as a command.

    Its fields, annotated with `typer.Argument` or `typer.Option`, are the arguments and options in their order, its
    docstring is the help, and its ``run`` is called.

    Parameters
    ----------
    program : Typer
        The program, or a group of commands.
    name : str
        What is typed.
    """

    def register(kind: type[_Kind]) -> type[_Kind]:
        def call(**values: Any) -> None:
            kind(**values).run()

        functools.update_wrapper(call, kind, updated=())
        # The types themselves, not their text: typer knows the names of this module only.
        call.__signature__ = inspect.signature(kind, eval_str=True)  # type: ignore[attr-defined]
        call.__annotations__ = {name: each.annotation for name, each in call.__signature__.parameters.items()}  # type: ignore[attr-defined]
        program.command(name)(call)
        return kind

    return register


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
