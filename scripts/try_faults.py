"""Kill runs, fill disks, limit memory and files, flip bits, as they happen to a user, and write down what comes of it.

``python scripts/try_faults.py FILE.csv [--only PART ...]``; on Linux. Full disks are small tmpfs, which root alone can
mount; without root they are left out, as are folders that may not be written (root may). Everything is made in a
temporary folder: a scan of 2 slices of 12 x 12, a prior of random weights and a run of 9 steps.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _program import End, cold, load_everything, warm

SETTINGS = (
    '{"method": "d3ip", "prior": "tiny", "device": "cpu", "steps": 4, "start_t": 200, "admm_steps": 2, "cg_steps": 2,'
    ' "adapt_steps": 1, "adapt_slices": 1, "lora_rank": 1, "tv_weight": 0.002, "adapt_splits": 0, "guard": false,'
    ' "start_iterations": 2, "adapt_loss": "fidelity", "adapt_leave_out": 0.0}'
)
RUN = ("reconstruct", "scan.npz", "-o", "o.npy", "--settings", "s.json")
QUICK = ("reconstruct", "scan.npz", "-o", "o.npy", "--method", "fbp", "--device", "cpu")
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
OLD = b"an older file"
FORMATS = ("o.npy", "o.tif", "o.h5", "o.zarr", "o.nii.gz")
NOBODY = 65534
Counts = dict[str, Counter[str]]


class Place:
    """A folder with a scan, a prior, settings, and the volume that the run gives when nothing happens."""

    def __init__(self, root: Path) -> None:
        self.root, self._made = root, root / "made"
        self._made.mkdir()
        (self._made / "s.json").write_text(SETTINGS)
        rng = np.random.default_rng(0)
        data = rng.random((2, 8, 12), dtype=np.float32) + 1
        np.savez(self._made / "scan.npz", data=data, angles=np.arange(8) * 22.5, axes="zad", values="line_integrals")
        make_prior(self._made / "tiny")
        warm(*RUN, folder=self._made)  # Fills the caches of files.
        begin = time.monotonic()
        end = warm(*RUN, folder=self._made)
        self.seconds = time.monotonic() - begin
        if end.kind != "done":
            raise SystemExit(f"The run does not work: {end.err}")
        self.volume = np.load(self._made / "o.npy")
        for name in ("o.npy", "o.npy.json"):
            (self._made / name).unlink()

    @contextmanager
    def fresh(self, where: Path | None = None) -> Iterator[Path]:
        """Yield a new copy of the folder."""
        folder = (where or self.root) / "case"
        shutil.copytree(self._made, folder)
        yield folder
        shutil.rmtree(folder)

    def is_right(self, folder: Path) -> bool:
        """Return whether the volume is the one that the run gives."""
        file = folder / "o.npy"
        return file.exists() and file.read_bytes() != OLD and np.array_equal(np.load(file), self.volume)


def make_prior(folder: Path) -> None:
    """Write a prior of random weights."""
    import torch

    from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
    from napari_d3ip.prior.schedules import linear_schedule

    torch.manual_seed(0)
    config = PriorConfig(channels=1, patch_size=2, low=-1.0)
    DiffusionPrior(build_unet(8, 2, 1, 16), linear_schedule(), config).save(folder)


def parts_left(folder: Path, *, make_old: bool = False) -> int:
    """Count the temporary folders beside what was written; as if of a run of two minutes ago."""
    left = [*folder.rglob("*.part")]
    for part in left if make_old else ():
        os.utime(part, (time.time() - 120,) * 2)
    return len(left)


def resumed(place: Place, folder: Path) -> str:
    """Go on, and return what came of it."""
    parts_left(folder, make_old=True)
    end = warm(*RUN, "--resume", folder=folder)
    if end.kind != "done":
        return f"resume: {end.kind} {end.said[-1:]}"
    if parts_left(folder):
        return "resume: .part left"
    return "resumed equal" if place.is_right(folder) else "resumed to another volume"


def loading(place: Place) -> Iterator[tuple[str, str]]:
    """Signals while the program loads, its first second included; an old volume lies where the new one will."""
    for name, number in SIGNALS.items():
        for moment in (0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0):
            with place.fresh() as folder:
                (folder / "o.npy").write_bytes(OLD)
                end = cold(*QUICK, folder=folder, at=(moment, number))
                is_old = (folder / "o.npy").read_bytes() == OLD
                kept = "old volume kept" if is_old else _new_volume(folder / "o.npy")
                how = end.kind if end.kind != "foreign" else f"foreign {end.code} {end.said[-1:]}"
                yield f"{name} while loading", f"{how}, {kept}"


def _new_volume(file: Path) -> str:
    try:
        return "new volume" if np.load(file).shape == (2, 12, 12) else "VOLUME LOST"
    except (OSError, ValueError):
        return "VOLUME LOST"


def running(place: Place) -> Iterator[tuple[str, str]]:
    """Signals at moments of a run, then ``--resume``."""
    for name, number in SIGNALS.items():
        for share in np.linspace(0.05, 0.95, 6):
            with place.fresh() as folder:
                end = warm(*RUN, folder=folder, at=(float(share) * place.seconds, number))
                how = "ended before" if end.kind == "done" else end.kind
                yield f"{name} in a run", f"{how}, {resumed(place, folder)}"


def twice(place: Place) -> Iterator[tuple[str, str]]:
    """Ctrl-C twice, quickly."""
    for share in (0.2, 0.5, 0.8):
        with place.fresh() as folder:

            def again(folder: Path = folder, seconds: float = share * place.seconds) -> None:
                signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
                signal.setitimer(signal.ITIMER_REAL, seconds + 0.03)

            end = warm(*RUN, folder=folder, at=(share * place.seconds, signal.SIGINT), before=again)
            yield "Ctrl-C twice", f"{_of(end)}, {resumed(place, folder)}"


def kill_at_replacement(number: int, *, after: bool) -> None:
    """Have this process killed before or after it puts a file in its place for the ``number``-th time."""
    replace, count = os.replace, 0

    def replacing(*given: object, **options: object) -> None:
        nonlocal count
        count += 1
        if count == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*given, **options)  # type: ignore[arg-type]
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replacing  # type: ignore[assignment]


def renaming(place: Place) -> Iterator[tuple[str, str]]:
    """SIGKILL around each file that is put in its place: checkpoints, then the volume and its JSON."""
    for number in (1, 2, 4, 5, 6):
        for after in (False, True):
            with place.fresh() as folder:
                end = warm(*RUN, folder=folder, before=partial(kill_at_replacement, number, after=after))
                yield "SIGKILL around a rename", f"{end.kind}, {resumed(place, folder)}"


def file_sizes(place: Place) -> Iterator[tuple[str, str]]:
    """``ulimit -f``, for the volume and for checkpoints; the run with checkpoints is resumed without a limit."""
    for size in (0, 512, 2048, 2**13, 2**15, 2**17):
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        with place.fresh() as folder:
            end = warm(*RUN, folder=folder, before=partial(_limited, limit))
            left = ", .part LEFT" if parts_left(folder) else ""
            yield "ulimit -f, d3ip", f"{_of(end)}{left}, {resumed(place, folder)}"
        for name in FORMATS:
            with place.fresh() as folder:
                end = warm(*_to(name), folder=folder, before=partial(_limited, limit))
                yield "ulimit -f, fbp", _written(end, folder / name)


def _limited(limit: Callable[[], None]) -> None:
    """Limit the files of this process but those of its output, which a shell would have opened as pipes."""
    for number, stream in ((1, "stdout"), (2, "stderr")):
        reader, writer = os.pipe()
        target = os.dup(number)
        if os.fork() == 0:
            os.close(writer)
            while block := os.read(reader, 4096):
                os.write(target, block)
            os._exit(0)
        os.dup2(writer, number)
        for one in (reader, writer, target):
            os.close(one)
        setattr(sys, stream, os.fdopen(number, "w", closefd=False))
    limit()


def _to(name: str) -> tuple[str, ...]:
    return (*QUICK[:3], name, *QUICK[4:])


def _of(end: End) -> str:
    return end.kind if end.kind != "foreign" else f"foreign {end.code} {end.said[-2:]}"


def _written(end: End, out: Path) -> str:
    """Say how a run ended, and whether anything is left of what it could not write."""
    is_there, left = out.exists(), parts_left(out.parent)
    wrong = is_there != (end.kind == "done") or left
    return f"{_of(end)}{', HALF WRITTEN or .part left' if wrong else ''}"


def full_disks(place: Place) -> Iterator[tuple[str, str]]:
    """Small disks for OUT and its checkpoint; an old OUT must stay."""
    for size in (4, 8, 16, 32, 128):
        for name in FORMATS:
            with place.fresh() as folder, disk(place.root, size) as full:
                end = warm(*_to(str(full / name)), folder=folder)
                yield "full disk, fbp", _written(end, full / name)
        with place.fresh() as folder, disk(place.root, size) as full:
            end = warm(*RUN[:3], str(full / "o.npy"), *RUN[4:], folder=folder)
            yield "full disk, d3ip", _written(end, full / "o.npy")


@contextmanager
def disk(root: Path, kilobytes: int, *, read_only: bool = False) -> Iterator[Path]:
    """Yield a tmpfs of a size."""
    folder = root / "disk"
    folder.mkdir()
    options = f"size={kilobytes}k" + (",ro" if read_only else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def little_memory(place: Place) -> Iterator[tuple[str, str]]:
    """``ulimit -v``: from the start, and of a loaded program so much more than it has."""
    for size in (0.25, 0.5, 0.75, 1, 1.5, 2, 3):
        limit = (int(size * 2**30),) * 2
        with place.fresh() as folder:
            end = cold(*RUN, folder=folder, before=partial(resource.setrlimit, resource.RLIMIT_AS, limit))
            yield f"ulimit -v {size:g} GiB", _written(end, folder / "o.npy")
    for more in (0, 4, 8, 16, 32, 64, 128):
        with place.fresh() as folder:
            end = warm(*RUN, folder=folder, before=partial(_limit_memory, more * 2**20))
            yield "ulimit -v of a loaded program", _written(end, folder / "o.npy")


def _limit_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + more,) * 2)


def flip(rng: np.random.Generator, file: Path) -> None:
    """Flip one to three bits of a file."""
    content = bytearray(file.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def flipped(place: Place) -> Iterator[tuple[str, str]]:
    """Bits flipped in checkpoints, weights and adapters."""
    rng = np.random.default_rng(0)
    with place.fresh() as folder:
        warm(*RUN, folder=folder, before=partial(kill_at_replacement, 6, after=True))
        kept = (folder / "o.npy.checkpoint").read_bytes()
    for _ in range(24):
        with place.fresh() as folder:
            (folder / "o.npy.checkpoint").write_bytes(kept)
            flip(rng, folder / "o.npy.checkpoint")
            yield "bits of a checkpoint", _compared(warm(*RUN, "--resume", folder=folder), place, folder)
    for pattern, what in (("tiny/**/*.safetensors", "weights"), ("tiny/**/*.json", "a prior's JSON")):
        for _ in range(8):
            with place.fresh() as folder:
                files = sorted(folder.glob(pattern))
                flip(rng, files[int(rng.integers(len(files)))])
                yield f"bits of {what}", _compared(warm(*RUN, folder=folder), place, folder)
    yield from _flipped_adapters(place, rng)


def _compared(end: End, place: Place, folder: Path) -> str:
    if end.kind != "done":
        return _of(end)
    return "equal" if place.is_right(folder) else "ANOTHER VOLUME"


def _flipped_adapters(place: Place, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    start = ("--set", "adapter=kept")
    with place.fresh() as first:
        warm(*RUN, "--save-adapter", "kept", folder=first)
        for name, pattern in (("adapters", "*.safetensors"), ("adapters' JSON", "*.json")):
            with place.fresh(place.root / "made") as folder:
                shutil.copytree(first / "kept", folder / "kept")
                warm(*RUN, *start, folder=folder)
                right = np.load(folder / "o.npy")
            for _ in range(6):
                with place.fresh(place.root / "made") as folder:
                    shutil.copytree(first / "kept", folder / "kept")
                    files = sorted((folder / "kept").glob(pattern))
                    flip(rng, files[int(rng.integers(len(files)))])
                    end = warm(*RUN, *start, folder=folder)
                    same = end.kind == "done" and np.array_equal(np.load(folder / "o.npy"), right)
                    yield f"bits of {name}", "equal" if same else _of(end).replace("done", "ANOTHER VOLUME")


def flipped_volumes(place: Place) -> Iterator[tuple[str, str]]:
    """Bits flipped in scans and volumes."""
    from napari_d3ip.errors import D3IPError
    from napari_d3ip.io import load_volume, read, save_sinogram

    rng = np.random.default_rng(0)
    with place.fresh() as folder:
        scan = read(folder / "scan.npz")
        files: dict[Path, Callable[[Path], np.ndarray]] = {}
        for name in FORMATS:
            warm(*_to(name), folder=folder)
            files[folder / name] = lambda path: load_volume(path).data
        save_sinogram(folder / "scan.h5", scan)
        files |= dict.fromkeys((folder / "scan.npz", folder / "scan.h5"), lambda path: read(path).data)
        for file, load in files.items():
            right, content = load(file), folder / "kept.bits"
            for _ in range(12):
                inner = _largest(file) if file.is_dir() else file
                shutil.copy(inner, content)
                flip(rng, inner)
                try:
                    how = "equal" if np.array_equal(load(file), right) else "other values"
                except D3IPError:
                    how = "sentence"
                shutil.copy(content, inner)
                kind = "scan" if file.name.startswith("scan") else "volume"
                yield f"bits of a {kind}, {''.join(file.suffixes)}", how


def _largest(folder: Path) -> Path:
    return max((item for item in folder.rglob("*") if item.is_file()), key=lambda item: item.stat().st_size)


def closed_doors(place: Place) -> Iterator[tuple[str, str]]:
    """Folders that may not be written, disks that are read-only, pipes and links in the place of files."""
    with place.fresh() as folder, disk(place.root, 64, read_only=True) as closed:
        for name in FORMATS:
            yield "read-only disk", _of(warm(*_to(str(closed / name)), folder=folder))
    with place.fresh() as folder:
        for item in (place.root, folder, *folder.rglob("*")):
            item.chmod(0o755)
        for name in FORMATS:
            end = warm(*_to(name), folder=folder, before=partial(os.setuid, NOBODY))
            yield "folder that may not be written", _of(end)
        (folder / "scan.npz").chmod(0)
        yield "scan that may not be read", _of(warm(*QUICK, folder=folder, before=partial(os.setuid, NOBODY)))
    for name in ("o.npy", "o.tif", "o.h5", "o.zarr", "o.npy.checkpoint", "kept"):
        with place.fresh() as folder:
            os.mkfifo(folder / name)
            out = name if name.startswith("o.") and name != "o.npy.checkpoint" else "o.npy"
            arguments = (*RUN[:3], out, *RUN[4:], *(("--save-adapter", "kept") if name == "kept" else ()))
            end = warm(*arguments, folder=folder)
            stays = (folder / name).is_fifo()
            yield "pipe to be written", f"{_of(end)}{'' if stays else ', PIPE REPLACED'}"
    yield from _pipes_to_read(place)
    with place.fresh() as folder:
        (folder / "loop.npy").symlink_to("loop.npy")
        yield "link to itself", _of(warm(*_to("loop.npy"), folder=folder))
        yield "link to itself", _of(warm("info", "loop.npy", folder=folder))


def _pipes_to_read(place: Place) -> Iterator[tuple[str, str]]:
    for name in ("x.npy", "x.npz", "x.tif", "x.h5", "x.nx", "x.hspy", "x.mat", "x.dat", "x.mrd", "x.cfl"):
        with place.fresh() as folder:
            os.mkfifo(folder / name)
            yield "pipe to be read", _of(warm("info", name, folder=folder))
    options = ("angles=p", "flats=p", "mask=p", "noise=p", "bad_pixels=p")
    for more in (*(("--set", one) for one in options), ("--settings", "p"), ("--reference", "p"), ("--prior", "p")):
        with place.fresh() as folder:
            os.mkfifo(folder / "p")
            yield "pipe to be read", _of(warm(*QUICK, *more, folder=folder))


def surroundings(place: Place) -> Iterator[tuple[str, str]]:
    """Homes, temporary folders and outputs that are missing or full, and other encodings."""
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_HOME"):
        with place.fresh() as folder:
            end = cold(*RUN, folder=folder, env={**os.environ, name: "/nowhere"})
            yield "home, caches or TMPDIR missing", _of(end)
    with disk(place.root, 4) as full, place.fresh() as folder:
        (full / "fill").write_bytes(bytes(4096))
        yield "TMPDIR full", _of(cold(*RUN, folder=folder, env={**os.environ, "TMPDIR": str(full)}))
    with place.fresh() as folder, Path("/dev/full").open("w") as full:
        yield "standard output full", _of(cold(*QUICK, "--json", folder=folder, stdout=full))
        yield "standard output full", _of(cold("info", "scan.npz", folder=folder, stdout=full))
    for command in ((*QUICK, "--json"), ("info", "scan.npz")):
        with place.fresh() as folder:
            reader, writer = os.pipe()
            os.close(reader)
            yield "standard output closed", _of(cold(*command, folder=folder, stdout=writer))
            os.close(writer)
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for name in ("o.npy", "ö.npy", os.fsdecode(b"o\xff.npy"), "o\x1b[31m.npy", "o\n.npy"):
        for environment in (plain, {**plain, "LC_ALL": "C.UTF-8"}):
            with place.fresh() as folder:
                end = cold(*_to(name), folder=folder, env=environment)
                yield "names and encodings", _written(end, folder / name)


PARTS = {
    **{"loading": loading, "running": running, "twice": twice, "renaming": renaming, "file_sizes": file_sizes},
    **{"full_disks": full_disks, "little_memory": little_memory, "flipped": flipped, "closed_doors": closed_doors},
    **{"flipped_volumes": flipped_volumes, "surroundings": surroundings},
}
NEEDS_ROOT = ("full_disks", "closed_doors", "surroundings")


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="CSV to write")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    load_everything()
    rows: dict[tuple[str, str], int] = Counter()
    with tempfile.TemporaryDirectory() as root:
        place = Place(Path(root))
        print(f"The run takes {place.seconds:.1f} s.", file=sys.stderr)
        for name in given.only:
            if name in NEEDS_ROOT and os.geteuid():
                continue
            for what, how in PARTS[name](place):
                rows[what, how] += 1
                print(f"{name}: {what}: {how}", flush=True)
    with given.file.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("part", "scan", "setting", "quantity", "value", "note"))
        table.writerows(("faults", "2 slices of 12²", what, how, count, "") for (what, how), count in rows.items())


if __name__ == "__main__":
    main()
