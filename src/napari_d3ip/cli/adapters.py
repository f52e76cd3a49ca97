"""Commands `adapters ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(help="Adapters of priors, kept by reconstruct --save-adapter.")


@group.command("average")
def average(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Adapters saved by reconstruct.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write.")],
) -> None:
    """Average the change that adapters make to a prior; the rank is the sum of theirs."""
    from napari_d3ip.adaptation.saved import average_adapters, load_adapter

    mean = average_adapters([load_adapter(folder) for folder in folders])
    mean.save(out)
    print(f"{out}: mean of {len(folders)} adapters, rank {mean.rank}.")
