"""The command line: options in, files, tables and exit codes out.

Thin: every command hands over to the room that does the work, imported only when the command runs, so that
``--help`` and ``info`` load no torch. Standard output carries results, standard error progress and complaints.
Exit codes: 0 done, 2 something the user can mend (one line), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from napari_d3ip.cli.interruption import CODE as INTERRUPTED
from napari_d3ip.cli.interruption import Interrupted, interruptible
from napari_d3ip.errors import D3IPError, FileError, SettingsError, printable, shortened
from napari_d3ip.measurement import ImageStack, KSpace, Sinogram
from napari_d3ip.reconstruction import Part
from napari_d3ip.settings import DIFFUSION_METHODS, METHODS, PRESETS, VOLUME_METHODS, Settings

if TYPE_CHECKING:
    from napari_d3ip.io import ReadOptions
    from napari_d3ip.reconstruction import Reconstruction

# Blur and distance of measured slices of simulated stacks.
_STACKS = {"deconvolution": ([3.0], 1), "inpainting": ([0.0], 3)}
# Options of simulate by the kinds that have them.
_SIMULATED = {
    ("ct",): ("views", "angle_range", "photons", "optical_depth", "projector"),
    ("mri",): ("acceleration", "coils", "pattern", "calibration"),
    tuple(_STACKS): ("fwhm", "every"),
}
_LOG_EVERY_SECONDS = 10.0  # Without a terminal, progress is a plain line now and then.

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings={"max_content_width": 100})
priors = typer.Typer(help="Diffusion priors: what is there, import from elsewhere, and training of new ones.")
app.add_typer(priors, name="priors")
adapters = typer.Typer(help="Adapters of priors, kept by reconstruct --save-adapter.")
app.add_typer(adapters, name="adapters")

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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: the console script ``napari-d3ip``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A name it cannot show must not end what is done.
    try:
        with interruptible():
            code = app(arguments or ["--help"], prog_name="napari-d3ip", standalone_mode=False)
    except Interrupted as stop:
        return _complain(f"interrupted; {stop}.", INTERRUPTED)
    except KeyboardInterrupt:
        return _complain("interrupted.", INTERRUPTED)
    except typer.TyperException as error:
        return _complain(error.format_message())
    except (D3IPError, OSError) as error:
        return _complain(str(error))
    except MemoryError:
        return _complain("memory: there is not enough for this; take fewer slices (--set slices=0:10).")
    if code == INTERRUPTED:  # Before or after what would have said so.
        return _complain("interrupted.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int = 2) -> int:
    print(f"napari-d3ip: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


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


@app.command()
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
            _number(row["psnr"], ".2f"),
            _number(row["ssim"], ".3f"),
            _number(row["residual"], ".3f"),
            _number(row["held_out_residual"], ".3f"),
            _number(row["seconds"], ".1f"),
        )
    Console().print(table)
    print(f"Volumes, comparison.png and results.json are in {out}.")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sinogram or k-space file.")],
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in FILE: kind, shape, geometry, and what is missing.

    Of a file that leaves open how it is to be read, what is known, and the question.
    """
    from napari_d3ip.io import LayoutQuestion, read

    fields, options = _split(_assigned(assignments))
    if fields:
        raise SettingsError(f"--set {next(iter(fields))}: info reconstructs nothing; give only what FILE lacks.")

    def show(description: dict[str, Any]) -> None:
        print(json.dumps(description) if as_json else "\n".join(_describe(description)))

    try:
        measurement = read(file, options)
    except LayoutQuestion as asked:
        known = {"kind": asked.kind, "source": file.name, "shape": asked.shape and list(asked.shape)}
        show({**known, "missing": [asked.needs], "candidates": list(asked.candidates)})
        raise
    show(measurement.describe())


@app.command()
def reconstruct(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A sinogram or k-space file, or with --set kind=... a stack.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Volume to write: .tif .zarr .npy .h5 .nii.gz.")
    ],
    method: Annotated[str | None, typer.Option(help=f"{', '.join(METHODS)} (default: d3ip)")] = None,
    prior: Annotated[
        str | None, typer.Option(help="Name of a prior, folder of a diffusers pipeline, or hub id.")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE.json", help="Settings; --set and options win over it.")
    ] = None,
    assignments: Assignments = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="True volume: only to report PSNR and SSIM.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (default: auto)")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random number (default: 0)")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of the same command.")] = False,
    part: Annotated[
        Part,
        typer.Option(help="What to write of an MR image; TIFF gets a complex one as OUT and OUT_phase."),
    ] = "magnitude",
    save_adapter: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the adapters, to start others from: --set adapter=FOLDER."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the volume behind FILE."""
    from napari_d3ip.io import load_volume, read, save_volume

    given = {**(Settings.load(settings_file) if settings_file else {}), **_assigned(assignments)}
    explicit = {"method": method, "prior": prior, "device": device, "seed": seed}
    fields, options = _split(given | {key: value for key, value in explicit.items() if value is not None})
    settings = Settings.create(fields)
    written = [[[0j if part == "complex" else 0.0]]]
    _check_output(out, lambda path: save_volume(path, written), file, settings_file, reference, *options.paths())
    if save_adapter is not None:
        _check_adapter(save_adapter, settings)
    measurement = read(file, options)
    _rehearse(
        out,
        lambda path: save_volume(path, written, voxel_size=measurement.voxel_size, unit=measurement.unit),
    )
    if part != "magnitude" and measurement.kind != "kspace":
        raise SettingsError(f"part: only MR images have a phase, not the volume of {file.name}; leave --part out.")
    truth = load_volume(reference).data if reference else None
    checkpoint = out.with_name(f"{out.name}.checkpoint") if settings.method in DIFFUSION_METHODS else None
    older = None if resume else _last_written(checkpoint)

    from napari_d3ip.reconstruction import reconstruct as run

    try:
        # Libraries that print must not spoil the one object on standard output.
        with contextlib.redirect_stdout(sys.stderr), _progress() as show:
            result = run(
                measurement,
                settings,
                reference=truth,
                on_step=lambda step: show(step.phase, step.index, step.total, step.eta_seconds),
                checkpoint=checkpoint,
                resume=resume,
            )
            result.save(out, part)
            if save_adapter is not None and result.adapter is not None:
                result.save_adapter(save_adapter)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)  # Only now is nothing lost if it goes.
    except KeyboardInterrupt:
        raise _interrupted(checkpoint, older) from None
    if save_adapter is not None and result.adapter is None:
        print(f"{save_adapter} is not written: the guard undid every adaptation.", file=sys.stderr)
    print(json.dumps(result.summary()) if as_json else _sentence(result, out))


@app.command()
def simulate(
    context: typer.Context,
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="Volume (z, y, x) to measure.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Scan to write: .h5 (ct only) or .npz.")],
    kind: Annotated[str, typer.Option(help="Kind of measurement: ct, mri, deconvolution or inpainting.")] = "ct",
    views: Annotated[int, typer.Option(min=1, help="ct: number of projections.")] = 60,
    angle_range: Annotated[float, typer.Option(help="ct: degrees the projections cover.")] = 180.0,
    acceleration: Annotated[float, typer.Option(min=1, help="mri: how much of k-space is left out.")] = 4.0,
    coils: Annotated[int, typer.Option(min=1, help="mri: number of coils.")] = 8,
    pattern: Annotated[str, typer.Option(help="mri: uniform, random or poisson.")] = "uniform",
    calibration: Annotated[int | None, typer.Option(min=0, help="mri: fully sampled lines in the centre.")] = None,
    fwhm: Annotated[
        str | None,
        typer.Option(
            metavar="F|Z,Y,X",
            help="deconvolution, inpainting: full width at half maximum of the blur in voxels (default: 3 and 0).",
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="deconvolution, inpainting: measure every n-th slice (default: 1 and 3)."),
    ] = None,
    noise: Annotated[
        float,
        typer.Option(
            min=0,
            help="Noise; ct: of a line integral, as a fraction of their mean; else: of a pixel of the full scan's "
            "image, as a fraction of their mean.",
        ),
    ] = 0.0,
    photons: Annotated[
        float | None,
        typer.Option(min=1, help="ct: photons that a detector pixel counts in a view without the object (Poisson)."),
    ] = None,
    optical_depth: Annotated[
        float | None,
        typer.Option(
            help="ct: with --photons, largest line integral, which VOLUME is scaled to while they are counted "
            "(default: VOLUME is attenuation per pixel)."
        ),
    ] = None,
    projector: Annotated[
        str,
        typer.Option(help="ct: joseph, as in reconstructions, or rotation, a foreign one (splines; slower)."),
    ] = "joseph",
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is random.")] = 0,
) -> None:
    """Simulate a scan of VOLUME."""
    from napari_d3ip.io import load_volume, save_kspace, save_sinogram, save_stack

    if kind not in ("ct", "mri", *_STACKS):
        raise SettingsError(f"kind: '{kind}' cannot be simulated; use ct, mri, deconvolution or inpainting.")
    for kinds, options in _SIMULATED.items():
        for name in options if kind not in kinds else ():
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise SettingsError(f"{name}: belongs to --kind {' or '.join(kinds)}, not {kind}; leave it out.")
    image = load_volume(volume)
    if kind in _STACKS:
        _check_output(out, lambda path: save_stack(path, ImageStack(np.ones((1, 1, 1), np.float32))), volume)

        from napari_d3ip.simulate import simulate_stack

        blur, step = _STACKS[kind]
        widths = blur if fwhm is None else _numbers(fwhm, "fwhm")
        stack = simulate_stack(image.data, fwhm=widths, every=every or step, noise=noise, seed=seed)
        save_stack(out, replace(stack, voxel_size=image.voxel_size, unit=image.unit))
        print(f"{out}: {_shape(image.data.shape)} voxels, {stack.measured:.0%} of them measured.")
        return
    if kind == "ct":
        _check_output(
            out, lambda path: save_sinogram(path, Sinogram(np.ones((1, 1, 1), np.float32), np.zeros(1))), volume
        )

        from napari_d3ip.simulate import simulate_sinogram

        sinogram = simulate_sinogram(
            image.data,
            views=views,
            angle_range=angle_range,
            noise=noise,
            photons=photons,
            optical_depth=optical_depth,
            projector=projector,
            seed=seed,
        )
        save_sinogram(out, replace(sinogram, voxel_size=image.voxel_size, unit=image.unit))
        print(f"{out}: {views} views of {_shape(image.data.shape)} voxels over {angle_range:g} degrees.")
        return
    _check_output(out, lambda path: save_kspace(path, KSpace(np.ones((1, 1, 1, 1), np.complex64))), volume)

    from napari_d3ip.simulate import simulate_kspace

    k_space = simulate_kspace(
        image.data,
        acceleration=acceleration,
        coils=coils,
        pattern=pattern,
        calibration=calibration,
        noise=noise,
        seed=seed,
    )
    save_kspace(out, replace(k_space, voxel_size=image.voxel_size, unit=image.unit))
    print(f"{out}: {coils} coils, {k_space.acceleration:.2g}-fold accelerated, of {_shape(image.data.shape)} voxels.")


@app.command()
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

    fields, options = _split(_assigned(assignments))
    plan = Plan(
        methods=None if methods is None else _listed(methods),
        fields=fields,
        sweeps=_choices(sweeps, "--sweep"),
        seeds=_listed(seeds),
        device=device,
        tuning=_choices(tune, "--tune"),
    )
    wanted, fractions = parse_tasks(_listed(tasks or "")), list(dict.fromkeys(_numbers(noise, "noise")))
    frozen = None if tuned is None else Tuning.load(tuned)
    try:
        scans = open_scans(files, references or (), wanted, fractions, options)
        if not tasks:
            for scan in scans:
                if scan.task is not None:
                    print(f"{scan.name}: read as a volume and measured as --tasks {scan.task}.", file=sys.stderr)
        with contextlib.redirect_stdout(sys.stderr), _progress() as show:
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


@adapters.command("average")
def average(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Adapters saved by reconstruct.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write.")],
) -> None:
    """Average the change that adapters make to a prior; the rank is the sum of theirs."""
    from napari_d3ip.adaptation.saved import average_adapters, load_adapter

    mean = average_adapters([load_adapter(folder) for folder in folders])
    mean.save(out)
    print(f"{out}: mean of {len(folders)} adapters, rank {mean.rank}.")


@priors.command("list")
def list_priors() -> None:
    """Name the priors shipped with the package and those installed by `priors import`."""
    from napari_d3ip.prior.library import available_priors

    for name in available_priors():
        print(name)


@priors.command("info")
def prior_info(
    prior: Annotated[str, typer.Argument(metavar="PRIOR", help="Name, folder of a diffusers pipeline, or hub id.")],
    as_json: AsJson = False,
) -> None:
    """Say what a prior is: channels, size, schedule, range, origin, loss."""
    from napari_d3ip.prior.description import describe_prior
    from napari_d3ip.prior.network import load_prior

    description = describe_prior(load_prior(prior))
    print(json.dumps(description) if as_json else "\n".join(_describe(description)))


@priors.command("import")
def import_prior(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Weights of a guided-diffusion U-Net: .pt or .safetensors.")
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="Name to install it under, or a folder to write (./NAME, a path).")
    ],
    num_heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4,
    num_head_channels: Annotated[int | None, typer.Option(min=1, help="Channels of a head, instead.")] = None,
    new_attention_order: Annotated[
        bool, typer.Option("--new-attention-order", help="It was trained with use_new_attention_order.")
    ] = False,
    schedule: Annotated[str, typer.Option(help="Noise schedule: linear or cosine.")] = "linear",
    diffusion_steps: Annotated[int, typer.Option(min=2, help="Steps it was trained with.")] = 1000,
    rescale_timesteps: Annotated[
        bool, typer.Option("--rescale-timesteps", help="It was trained with rescale_timesteps.")
    ] = False,
    low: Annotated[
        float | None, typer.Option(help="Its value of intensity 0 (default: -1; 0 for complex images).")
    ] = None,
    high: Annotated[float, typer.Option(help="Its value of intensity 1.")] = 1.0,
    image_size: Annotated[int, typer.Option(min=1, help="Height and width of the images it was trained on.")] = 256,
) -> None:
    """Convert a guided-diffusion (ADM) checkpoint to a prior; the options are what the file does not say itself."""
    from napari_d3ip.prior.guided_diffusion import AttentionHeads
    from napari_d3ip.prior.importing import ImportOptions, import_guided_diffusion
    from napari_d3ip.prior.library import installed_path

    if schedule not in ("linear", "cosine"):
        raise SettingsError(f"schedule: '{schedule}' is not known; use linear or cosine.")
    options = ImportOptions(
        heads=AttentionHeads(num_heads, num_head_channels, new_attention_order),
        schedule="linear" if schedule == "linear" else "cosine",
        diffusion_steps=diffusion_steps,
        rescale_timesteps=rescale_timesteps,
        low=low,
        high=high,
        image_size=image_size,
    )
    made = import_guided_diffusion(checkpoint, installed_path(out), options)
    heads = f"heads of {num_head_channels} channels" if num_head_channels else f"{num_heads} heads"
    print(
        f"{out}: imported, image channels: {made.config.channels}. Not in the file, so check it: {heads}, {schedule} "
        f"schedule of {diffusion_steps} steps, images from {made.config.low:g} to {made.config.high:g}."
    )


@priors.command("train")
def train_prior(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the prior, a diffusers pipeline.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Phantoms a step.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Height and width of the phantoms in pixels.")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="Channels of the network's first level.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, phantoms and noise.")] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, max=2, help="1: real images; 2: complex images with smooth phase.")
    ] = None,
    phantoms: Annotated[
        str | None, typer.Option(help="ellipses, or mixed: grains, strips, polygons, fibres and textures, too.")
    ] = None,
    pool: Annotated[
        int | None, typer.Option(min=1, help="Draw phantoms for so many steps at once; 8 or more on a GPU.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="End after so long if the steps are not done by then.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in OUT.")] = False,
    initial: Annotated[str | None, typer.Option(help="Start from the weights of this prior (name or folder).")] = None,
) -> None:
    """Train a prior on phantoms drawn on the fly; what is not given follows the shipped prior's recipe."""
    from napari_d3ip.device import resolve_device
    from napari_d3ip.prior.network import load_prior
    from napari_d3ip.prior.train import TrainingSettings, train

    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "size": size,
        "width": width,
        "learning_rate": learning_rate,
        "seed": seed,
        "channels": channels,
        "phantoms": phantoms,
        "pool": pool,
        "minutes": minutes,
    }
    settings = replace(TrainingSettings(), **{key: value for key, value in given.items() if value is not None})
    marks: list[tuple[float, int]] = []
    older = None if resume else _last_written(out / "checkpoint.pt")
    try:
        with _progress() as show:
            start = None if initial is None else load_prior(initial)
            for state in train(out, settings, device=resolve_device(device), resume=resume, initial=start):
                marks.append((time.monotonic(), state.step))
                show(f"training, loss {state.loss:.4f}", state.step, state.total, _remaining(marks, state.total))
    except KeyboardInterrupt:
        raise _interrupted(out / "checkpoint.pt", older) from None
    print(f"{out}: trained for {state.step} steps.")


def _last_written(file: Path | None) -> int | None:
    """When, in nanoseconds; None if it is not there."""
    return file.stat().st_mtime_ns if file is not None and file.exists() else None


def _interrupted(checkpoint: Path | None, older: int | None) -> Interrupted:
    """Says whether the run has left more than a checkpoint that is ``older`` than it."""
    is_there = _last_written(checkpoint) not in (None, older)
    kept = f"{checkpoint} is kept, the same command with --resume goes on" if is_there else "nothing is kept"
    return Interrupted(kept)


def _assigned(assignments: list[str] | None) -> dict[str, Any]:
    """Parse ``--set key=value`` options."""
    return {key: _value(text) for key, text in _pairs(assignments, "--set")}


def _pairs(assignments: list[str] | None, option: str) -> Iterator[tuple[str, str]]:
    for assignment in assignments or []:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise SettingsError(f"{option} {assignment}: write it as key=value.")
        yield key, value


def _value(text: str) -> str | None:
    """Text of a setting; ``null`` means "choose from the scan"."""
    return None if text == "null" else text


def _listed(text: str) -> list[str]:
    """Parts of a comma-separated text, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _choices(options: list[str] | None, option: str) -> dict[str, list[str | None]]:
    """Values of each setting of ``KEY=V1,V2`` options."""
    return {key: [_value(text) for text in _listed(values)] for key, values in _pairs(options, option)}


def _numbers(text: str, name: str) -> list[float]:
    """Comma-separated finite numbers."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not np.isfinite(numbers).all():
        raise SettingsError(f"{name}: '{text}' is no list of numbers; write it as 0,0.01.")
    return numbers


def _split(values: dict[str, Any]) -> tuple[dict[str, Any], ReadOptions]:
    """Separate the settings of a reconstruction from what a reader must be told of a file."""
    from napari_d3ip.io import ReadOptions

    known = sorted({*Settings.model_fields, *ReadOptions.model_fields})
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known)}."
            raise SettingsError(f"{key}: there is no such setting; {hint}")
    fields = {key: value for key, value in values.items() if key in Settings.model_fields}
    return fields, ReadOptions.create({key: value for key, value in values.items() if key not in fields})


def _check_output(out: Path, write: Callable[[Path], None], *inputs: Path | None) -> None:
    """Find out before the long computation whether ``out`` can be written, and is none of the files that are read."""
    from napari_d3ip.io.atomic import replacing

    with replacing(out, is_folder=out.suffix.lower() == ".zarr"):
        pass
    for path in inputs:
        if path is not None and os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out):
            raise FileError(f"out: {out} is read, so it would be lost; choose another name.")
    _rehearse(out, write)


def _rehearse(out: Path, write: Callable[[Path], None]) -> None:
    """Write elsewhere, to try the ending and the library that needs."""
    with tempfile.TemporaryDirectory() as elsewhere:
        write(Path(elsewhere) / out.name)


def _check_adapter(folder: Path, settings: Settings) -> None:
    """Find out before the long computation whether the run makes adapters that can be kept, and has a place for them.

    Raises
    ------
    D3IPError
        If not.
    """
    from napari_d3ip.adaptation.saved import check_folder

    if settings.method not in VOLUME_METHODS or settings.adapt_groups != 1 or settings.adapt_biases:
        raise SettingsError(
            f"save-adapter: only {', '.join(VOLUME_METHODS)} with one adapt_groups and without adapt_biases make "
            "adapters to keep; leave it out."
        )
    check_folder(folder)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int, float | None], None]]:
    """Show phase, step and remaining time on standard error: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def log(phase: str, done: int, total: int, seconds: float | None) -> None:
            nonlocal last
            if time.monotonic() - last >= _LOG_EVERY_SECONDS:
                last = time.monotonic()
                print(f"{phase}, step {done} of {total}{_left(seconds)}", file=sys.stderr, flush=True)

        yield log
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("starting", total=None, left="")

        def draw(phase: str, done: int, total: int, seconds: float | None) -> None:
            progress.update(task, description=phase, completed=done, total=total, left=_left(seconds))

        yield draw


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f", {minutes}:{rest:02d} left"


def _remaining(marks: list[tuple[float, int]], total: int) -> float | None:
    """Seconds to ``total`` at the pace between the first and the last (time, step)."""
    (began, first), (now, step) = marks[0], marks[-1]
    return (now - began) / (step - first) * (total - step) if step > first else None


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(str(size) for size in shape)


def _describe(description: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Lines of ``key: value``, what is inside a value indented below it."""
    for name, value in description.items():
        key = _plain(name)
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _describe(value, f"{indent}  ")
        elif isinstance(value, list) and any(" " in str(item) for item in value):
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {_plain(item)}" for item in value)
        else:
            yield f"{indent}{key}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) or "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else printable(shortened(str(value)))


def _sentence(result: Reconstruction, out: Path) -> str:
    metrics = result.metrics
    parts = [f"{metrics['seconds']:.1f} s on {metrics['device']}"]
    for label, name, form in (
        ("residual", "residual", ".3f"),
        ("held-out residual", "held_out_residual", ".3f"),
        ("PSNR", "psnr", ".2f"),
        ("SSIM", "ssim", ".3f"),
    ):
        if metrics[name] is not None:
            parts.append(f"{label} {metrics[name]:{form}}")
    what = f"{out}: {_shape(result.volume.shape)} voxels by {metrics['returned']}, {', '.join(parts)}."
    return "\n".join(printable(line) for line in (what, metrics["verdict"], metrics["misfit"]) if line)
