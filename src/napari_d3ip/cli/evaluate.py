"""Command `evaluate`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_d3ip.cli.app import AsJson, Assignments
from napari_d3ip.cli.interruption import Interrupted
from napari_d3ip.cli.parse import parse_assignments, parse_choices, parse_list, parse_numbers, split_options
from napari_d3ip.cli.progress import show_progress


def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|VOLUME...", help="Sinogram and k-space files; volumes to simulate --tasks of."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for rows, table.md, table.csv and figures.")
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Methods; each runs on the scans that it suits (default: the classical ones, dds and d3ip).",
        ),
    ] = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=V1,V2,...",
            help="Values of a setting to try, the others as they are; may be repeated, one setting varies at a time.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="S1,S2,...", help="Seeds of the reconstructions.")] = "0",
    references: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference",
            metavar="FILE",
            help="True volume, one for each measurement in their order (default: array 'reference' in an npz, or "
            "NAME_reference.npy beside it).",
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="T1,T2,...",
            help="What to simulate of volumes: views30, views20@120 (degrees), angle90 (a view every 2 degrees), "
            "uniform4, random4, poisson8 (MRI, so many-fold accelerated), each with _noise0.03 or, CT, _photons1e4 "
            "behind it if --noise does not say; ct and mri are sets of these (default: views30).",
        ),
    ] = None,
    noise: Annotated[
        str, typer.Option(metavar="F1,F2,...", help="Noise of what is simulated, as in simulate.")
    ] = "0.01",
    tune: Annotated[
        list[str] | None,
        typer.Option(
            "--tune",
            metavar="[METHOD:]KEY=V1,V2,...",
            help="Choose the value of a setting for each method, by the mean PSNR on --development scans of a task, "
            "and freeze it (DIR/tuned.json) before the others are run; may be repeated. Weights may be in units of "
            "the noise: tv_weight=0.5*noise,1*noise.",
        ),
    ] = None,
    development: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE|VOLUME", help="Scan, or volume to simulate --tasks of, to tune on; not in tables."),
    ] = None,
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="tuned.json of an earlier call: use what it chose.")
    ] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Keep rows that another version of the code computed, too.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=1, help="Runs at a time, to keep a GPU or many cores busy."),
    ] = 1,
    assignments: Assignments = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare methods and settings on scans: tables with means, deviations and intervals, and figures.

    What DIR/rows.jsonl already has, of the same scan, settings, prior and code, is not computed again.
    """
    from napari_d3ip.evaluate import Plan, Tuning, open_scans, parse_tasks
    from napari_d3ip.evaluate import evaluate as run

    fields, options = split_options(parse_assignments(assignments))
    plan = Plan(
        methods=None if methods is None else parse_list(methods),
        fields=fields,
        sweeps=parse_choices(sweeps, "--sweep"),
        seeds=parse_list(seeds),
        device=device,
        tuning=parse_choices(tune, "--tune"),
    )
    wanted, fractions = parse_tasks(parse_list(tasks or "")), list(dict.fromkeys(parse_numbers(noise, "noise")))
    frozen = None if tuned is None else Tuning.load(tuned)
    try:
        scans = open_scans(files, references or (), wanted, fractions, options)
        if not tasks:
            for scan in scans:
                if scan.task is not None:
                    print(f"{scan.name}: read as a volume and measured as --tasks {scan.task}.", file=sys.stderr)
        with contextlib.redirect_stdout(sys.stderr), show_progress() as show:
            result = run(
                scans,
                plan,
                out,
                lambda name, step: show(f"{name}: {step.phase}", step.index, step.total, step.eta_seconds),
                development=open_scans(development, (), wanted, fractions, options) if development else (),
                tuned=frozen,
                reuse=reuse,
                jobs=jobs,
            )
    except KeyboardInterrupt:
        raise Interrupted(f"{out} keeps the rows so far, the same command goes on") from None
    if as_json:
        counts = {"computed": result.computed, "outdated": result.outdated, "kept": result.kept}
        compared = [one.flat() for one in result.differences]
        lines = [line.flat() for line in result.lines]
        print(json.dumps({"folder": str(out), **counts, "lines": lines, "differences": compared}))
        return
    print((out / "table.md").read_text(encoding="utf-8"))
    again = (
        f" ({result.outdated} of them again, made by other code before; --reuse keeps such)" if result.outdated else ""
    )
    print(f"{result.computed} rows computed{again}, {result.kept} kept from before; tables and figures are in {out}.")
