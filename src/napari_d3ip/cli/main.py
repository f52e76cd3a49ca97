"""Entry point of the command line."""

from __future__ import annotations

import contextlib
import io
import os
import sys

import typer

from napari_d3ip.cli import adapters, priors
from napari_d3ip.cli.app import app, command
from napari_d3ip.cli.check import check
from napari_d3ip.cli.evaluate import Evaluate
from napari_d3ip.cli.info import demo, info
from napari_d3ip.cli.interruption import CODE as INTERRUPTED
from napari_d3ip.cli.interruption import Interrupted, interruptible
from napari_d3ip.cli.reconstruct import Reconstruct
from napari_d3ip.cli.simulate import Simulate
from napari_d3ip.errors import D3IPError, printable

app.command("demo")(demo)
app.command("info")(info)
app.command("check")(check)
command(app, "reconstruct")(Reconstruct)
command(app, "simulate")(Simulate)
command(app, "evaluate")(Evaluate)
app.add_typer(priors.group, name="priors")
app.add_typer(adapters.group, name="adapters")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: the console script ``napari-d3ip``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A name it cannot show must not end what is done.
    try:
        with interruptible():
            code = app(arguments or ["--help"], prog_name="napari-d3ip", standalone_mode=False)
            if sys.stdout is not None:  # As without a console on Windows.
                sys.stdout.flush()  # What cannot be written is found here, not when the interpreter ends.
    except Interrupted as stop:
        return _complain(f"interrupted; {stop}.", INTERRUPTED)
    except KeyboardInterrupt:
        return _complain("interrupted.", INTERRUPTED)
    except typer.TyperException as error:
        return _complain(error.format_message())
    except BrokenPipeError:
        return _complain_of_closed_output()
    except (D3IPError, OSError) as error:
        return _complain(str(error))
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        return _complain_of_closed_output()
    except MemoryError:
        return _complain("memory: there is not enough for this; take fewer slices (--set slices=0:10).")
    if code == INTERRUPTED:  # Before or after what would have said so.
        return _complain("interrupted.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _complain_of_closed_output() -> int:
    # The interpreter flushes what is left, and would complain again.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _complain("standard output was closed before all of it was printed.")


def _complain(message: str, code: int = 2) -> int:
    print(f"napari-d3ip: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code
