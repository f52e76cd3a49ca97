"""Commands `demo` and `info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from napari_d3ip.cli.app import AsJson, Assignments
from napari_d3ip.cli.output import description_lines, number_text
from napari_d3ip.cli.parse import parse_assignments, split_options
from napari_d3ip.errors import SettingsError


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for volumes, figure and results.json.")
    ] = Path("napari-d3ip-demo"),
) -> None:
    """Reconstruct the bundled samples with every kind of method and print a table of the results."""
    from napari_d3ip.evaluate import run_demo

    console = Console(stderr=True)
    results = run_demo(out, lambda message: console.print(message, markup=False, highlight=False))
    table = Table("sample", "method", title="napari-d3ip demo")
    for heading in ("PSNR / dB", "SSIM", "residual", "held-out residual", "seconds"):
        table.add_column(heading, justify="right")
    for row in results:
        table.add_row(
            row["sample"],
            row["method"],
            number_text(row["psnr"], ".2f"),
            number_text(row["ssim"], ".3f"),
            number_text(row["residual"], ".3f"),
            number_text(row["held_out_residual"], ".3f"),
            number_text(row["seconds"], ".1f"),
        )
    Console().print(table)
    print(f"Volumes, comparison.png and results.json are in {out}.")


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sinogram or k-space file.")],
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in FILE: kind, shape, geometry, and what is missing.

    Of a file that leaves open how it is to be read, what is known, and the question. Of a large scan, a few slices are
    read: values_of says which the range of values is of.
    """
    from napari_d3ip.io import LayoutQuestion
    from napari_d3ip.io.excerpt import describe
    from napari_d3ip.io.reader_process import in_own_process

    fields, options = split_options(parse_assignments(assignments))
    if fields:
        raise SettingsError(f"--set {next(iter(fields))}: info reconstructs nothing; give only what FILE lacks.")

    def show(description: dict[str, Any]) -> None:
        print(json.dumps(description) if as_json else "\n".join(description_lines(description)))

    try:
        # In a process of its own, since some damaged files crash the libraries that read them.
        description = in_own_process(describe, file, options)
    except LayoutQuestion as asked:
        known = {"kind": asked.kind, "source": file.name, "shape": asked.shape and list(asked.shape)}
        show({**known, "missing": [asked.needs, *asked.also], "candidates": list(asked.candidates)})
        raise
    show(description)
