"""Command `evaluate`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_d3ip.cli.app import AsJson, Assignments
from napari_d3ip.cli.interruption import Interrupted
from napari_d3ip.cli.parse import parse_assignments, parse_choices, parse_list, parse_numbers, split_options
from napari_d3ip.cli.progress import show_progress

if TYPE_CHECKING:
    from napari_d3ip.evaluate import Evaluation, Plan, Scan


@dataclass(frozen=True)
class Evaluate:
    """Compare methods and settings on scans: tables with means, deviations and intervals, and figures.

    What DIR/rows.jsonl already has, of the same scan, settings, prior and code, is not computed again.
    """

    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|VOLUME...", help="Sinogram and k-space files; volumes to simulate --tasks of."),
    ]
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for rows, table.md, table.csv and figures.")
    ]
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Methods; each runs on the scans that it suits (default: the classical ones, dds and d3ip).",
        ),
    ] = None
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=V1,V2,...",
            help="Values of a setting to try, the others as they are; may be repeated, one setting varies at a time.",
        ),
    ] = None
    seeds: Annotated[str, typer.Option(metavar="S1,S2,...", help="Seeds of the reconstructions.")] = "0"
    references: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference",
            metavar="FILE",
            help="True volume, one for each measurement in their order (default: array 'reference' in an npz, or "
            "NAME_reference.npy beside it).",
        ),
    ] = None
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="T1,T2,...",
            help="What to simulate of volumes: views30, views20@120 (degrees), angle90 (a view every 2 degrees), "
            "uniform4, random4, poisson8 (MRI, so many-fold accelerated; poisson8_tissue with phase of fine structure "
            "and fat), each with _noise0.03 or, CT, _photons1e4 behind it if --noise does not say; ct and mri are "
            "sets of these (default: views30).",
        ),
    ] = None
    noise: Annotated[str, typer.Option(metavar="F1,F2,...", help="Noise of what is simulated, as in simulate.")] = (
        "0.01"
    )
    tune: Annotated[
        list[str] | None,
        typer.Option(
            "--tune",
            metavar="[METHOD:]KEY=V1,V2,...",
            help="Choose the value of a setting for each method, by the mean PSNR on --development scans of a task, "
            "and freeze it (DIR/tuned.json) before the others are run; may be repeated. Weights may be in units of "
            "the noise: tv_weight=0.5*noise,1*noise.",
        ),
    ] = None
    development: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE|VOLUME", help="Scan, or volume to simulate --tasks of, to tune on; not in tables."),
    ] = None
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="tuned.json of an earlier call: use what it chose.")
    ] = None
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Keep rows that another version of the code computed, too.")
    ] = False
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=1, help="Runs at a time, to keep a GPU or many cores busy."),
    ] = 1
    assignments: Assignments = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    as_json: AsJson = False

    def run(self) -> None:
        """Compare, and print the table."""
        from napari_d3ip.evaluate import Tuning, open_scans, parse_tasks
        from napari_d3ip.evaluate import evaluate as compare

        fields, options = split_options(parse_assignments(self.assignments))
        plan = self._plan(fields)
        wanted = parse_tasks(parse_list(self.tasks or ""))
        fractions = list(dict.fromkeys(parse_numbers(self.noise, "noise")))
        frozen = None if self.tuned is None else Tuning.load(self.tuned)
        try:
            scans = open_scans(self.files, self.references or (), wanted, fractions, options)
            self._print_default_tasks(scans)
            with contextlib.redirect_stdout(sys.stderr), show_progress() as show:
                result = compare(
                    scans,
                    plan,
                    self.out,
                    lambda name, step: show(f"{name}: {step.phase}", step.index, step.total, step.eta_seconds),
                    development=open_scans(self.development, (), wanted, fractions, options)
                    if self.development
                    else (),
                    tuned=frozen,
                    reuse=self.reuse,
                )
        except KeyboardInterrupt:
            raise Interrupted(f"{self.out} keeps the rows so far, the same command goes on") from None
        print(self._json(result) if self.as_json else self._text(result))

    def _plan(self, fields: dict[str, Any]) -> Plan:
        """Return what is to be run on every scan, with these settings in all runs."""
        from napari_d3ip.evaluate import Plan

        return Plan(
            methods=None if self.methods is None else parse_list(self.methods),
            fields=fields,
            sweeps=parse_choices(self.sweeps, "--sweep"),
            seeds=parse_list(self.seeds),
            device=self.device,
            jobs=self.jobs,
            tuning=parse_choices(self.tune, "--tune"),
        )

    def _print_default_tasks(self, scans: Sequence[Scan]) -> None:
        """Print how volumes are measured where the command line does not say."""
        for scan in scans if not self.tasks else ():
            if scan.task is not None:
                print(f"{scan.name}: read as a volume and measured as --tasks {scan.task}.", file=sys.stderr)

    def _json(self, result: Evaluation) -> str:
        counts = {"computed": result.computed, "outdated": result.outdated, "kept": result.kept}
        compared = [one.flat() for one in result.differences]
        lines = [line.flat() for line in result.lines]
        return json.dumps({"folder": str(self.out), **counts, "lines": lines, "differences": compared})

    def _text(self, result: Evaluation) -> str:
        table = (self.out / "table.md").read_text(encoding="utf-8")
        again = ""
        if result.outdated:
            again = f" ({result.outdated} of them again, made by other code before; --reuse keeps such)"
        counts = f"{result.computed} rows computed{again}, {result.kept} kept from before"
        return f"{table}\n{counts}; tables and figures are in {self.out}."
