"""Command `check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_d3ip.cli.app import AsJson, Assignments
from napari_d3ip.cli.output import check_output
from napari_d3ip.cli.parse import parse_assignments, split_options
from napari_d3ip.errors import SettingsError, printable

if TYPE_CHECKING:
    from napari_d3ip.checking import Report

# Pixels of the detector in a picture, at most.
_WIDTH = 256


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sinogram or k-space file.")],
    assignments: Assignments = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write what is found to FILE.d3ip.json, which every reader takes.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="PNG", help="Draw a slice as FILE describes it and as suggested."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find out what is wrong with the description of the scan in FILE, by views that no description has seen."""
    from napari_d3ip.checking import check as check_scan
    from napari_d3ip.io import read
    from napari_d3ip.io.answers import answers_beside, with_answers, write_answers
    from napari_d3ip.io.reader_process import in_own_process

    fields, options = split_options(parse_assignments(assignments))
    if fields:
        raise SettingsError(f"--set {next(iter(fields))}: check reconstructs nothing; give only what FILE lacks.")
    if picture is not None:
        check_output(picture, lambda path: None, file)
    report = check_scan(in_own_process(read, file, options))
    if picture is not None:
        _draw(report, picture)
    print(json.dumps(report.as_json()) if as_json else _text(report))
    if apply and report.suggestions:
        write_answers(file, with_answers(file, options), report.options)
        if not as_json:
            print(f"Written to {printable(answers_beside(file).name)}.")


def _text(report: Report) -> str:
    """Return what is right, and what is better otherwise."""
    residual = f"{report.held_out_residual:.3g}"
    if not report.suggestions and not report.predicts:
        return (
            f"As the scan is described, views left out are predicted to {residual} of their deviation, which is bad; "
            "something may be wrong that is not looked for, or there are too few views to tell."
        )
    if not report.suggestions:
        return (
            f"Nothing is better otherwise: as the scan is described, views left out are predicted to {residual} of "
            "their deviation."
        )
    lines = [f"As the scan is described, views left out are predicted to {residual} of their deviation, and to"]
    for suggestion in report.suggestions:
        given = " ".join(f"--set {each}" for each in suggestion.set)
        lines.append(f"  {suggestion.held_out_residual:.3g} with {given}: {suggestion.why}")
    return "\n".join(map(printable, lines))


def _draw(report: Report, path: Path) -> None:
    """Draw a slice by filtered back-projection, as described and with each suggestion."""
    from napari_d3ip.alignment.excerpt import coarser
    from napari_d3ip.evaluate.figures import Panel, draw_comparison, middle_slice
    from napari_d3ip.io.atomic import replacing
    from napari_d3ip.measurement import Sinogram
    from napari_d3ip.reconstruction import reconstruct

    first = slice(0, 1)
    panel = Panel.from_scan(report.file, report.scan.select(slices=first), None)
    described = {"as described": report.scan}
    described |= {" ".join(each.set)[:40]: each.scan for each in report.suggestions}
    for name, scan in described.items():
        if isinstance(scan, Sinogram):
            result = reconstruct(coarser(scan.select(slices=first), _WIDTH), method="fbp")
        else:
            result = reconstruct(scan, method="zero-filled")
        panel.images[name] = middle_slice(result.volume), result.metrics
    with replacing(path) as temporary:
        draw_comparison(temporary, [panel])
