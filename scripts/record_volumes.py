"""Record what many small reconstructions give, and find out later whether they still give the same, bit for bit.

``python scripts/record_volumes.py record FILE.json`` before a change of the code that is to change no volume, and
``python scripts/record_volumes.py compare FILE.json`` after it. Beside FILE.json, which has digests and statistics,
FILE.npz keeps the arrays, so that a difference can be measured. Volumes are the same on one machine with the same
versions of its libraries only; `compare` says where these differ.

Exit codes: 0 all equal, 1 something differs or cannot be computed any more (``--dropped NAME`` excuses a run).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before anything loads torch or numpy: sums depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _recorded_runs import Outputs, Workplace, all_runs

import napari_d3ip as d3

_LIBRARIES = ("torch", "numpy", "scipy", "diffusers", "peft", "sigpy", "scikit-image")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread of torch inside."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def results_of(names: list[str]) -> Iterator[tuple[str, Outputs | str]]:
    """Run some of `all_runs` and yield what each gives, or the message of what it cannot do."""
    runs = all_runs()
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder))
        for number, name in enumerate(names, start=1):
            began = time.perf_counter()
            try:
                found: Outputs | str = runs[name](place)
            except d3.D3IPError as error:
                found = str(error)
            except subprocess.CalledProcessError as error:
                found = error.stderr.strip()
            seconds = time.perf_counter() - began
            print(f"{number} of {len(names)}: {name}, {seconds:.1f} s", file=sys.stderr, flush=True)
            yield name, found


def fingerprint(value: Any) -> Any:
    """Return the digest and statistics of an array; other values as they are."""
    if not isinstance(value, np.ndarray):
        return value
    size = np.abs(value) if np.iscomplexobj(value) else value
    return {
        "sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(),
        "dtype": value.dtype.name,
        "shape": list(value.shape),
        "min": float(size.min()),
        "max": float(size.max()),
        "mean": float(size.mean(dtype=np.float64)),
    }


def machine() -> dict[str, str]:
    """Return what volumes depend on beside the code: versions, and the processor's instructions."""
    import torch

    versions = {name: version(name) for name in _LIBRARIES}
    return {"python": sys.version.split()[0], **versions, "instructions": torch.backends.cpu.get_cpu_capability()}


def record(file: Path, names: list[str]) -> None:
    """Write what runs give to ``file``, and their arrays beside it.

    Raises
    ------
    SystemExit
        If a run fails.
    """
    runs: dict[str, Outputs] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, found in results_of(names):
        if isinstance(found, str):
            raise SystemExit(f"{name}: {found}")
        runs[name] = {key: fingerprint(value) for key, value in found.items()}
        arrays |= {f"{name}: {key}": value for key, value in found.items() if isinstance(value, np.ndarray)}
    np.savez_compressed(file.with_suffix(".npz"), **arrays)
    file.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1))
    print(f"{file}: {len(runs)} runs, {len(arrays)} arrays.")


def difference(before: Any, after: Any) -> float | None:
    """Return the largest difference of two arrays or lists of numbers over the largest number; None if it has none."""
    try:
        first, second = (np.asarray(value, np.complex128) for value in (before, after))
    except (TypeError, ValueError):
        return None
    if first.shape != second.shape or not first.size:
        return None
    scale = float(np.nanmax(np.abs(first))) or 1.0
    return float(np.nanmax(np.abs(second - first))) / scale


def differences(name: str, recorded: Outputs, found: Outputs, arrays: Any) -> Iterator[tuple[str, str, str]]:
    """Yield a row (output, outcome, difference) for each output that is not the same."""
    for key in sorted({*recorded, *found}):
        if key not in found or key not in recorded:
            yield key, "missing" if key in recorded else "new", ""
        elif recorded[key] != json.loads(json.dumps(fingerprint(found[key]))):
            is_array = isinstance(found[key], np.ndarray)
            before = arrays[f"{name}: {key}"] if is_array else recorded[key]
            size = difference(before, found[key])
            yield key, "differs", "" if size is None else f"{size:.2e}"


def compare(file: Path, names: list[str], dropped: list[str]) -> int:
    """Print what is equal to the recording, differs from it or is missing, and return the exit code."""
    recorded = json.loads(file.read_text())
    changed = {key: value for key, value in recorded["machine"].items() if machine().get(key) != value}
    for key, value in changed.items():
        print(f"{key}: recorded with {value}, now {machine().get(key)}; volumes may differ by that alone.")
    known = all_runs()
    wanted = [name for name in recorded["runs"] if name in names]
    counts = dict.fromkeys(("equal", "differs", "missing", "dropped"), 0)
    print("| run | outcome | output | largest relative difference |\n|---|---|---|---|")

    def report(name: str, outcome: str, rows: list[tuple[str, str, str]]) -> None:
        counts[outcome] += 1
        for output, what, size in rows:
            print(f"| {name} | {what} | {output} | {size} |", flush=True)

    with np.load(file.with_suffix(".npz")) as arrays:
        for name in (name for name in wanted if name not in known or name in dropped):
            outcome = "dropped" if name in dropped else "missing"
            report(name, outcome, [("", outcome, "")])
        for name, found in results_of([name for name in wanted if name in known and name not in dropped]):
            if isinstance(found, str):
                report(name, "missing", [(" ".join(found.split()), "missing", "")])
                continue
            rows = list(differences(name, recorded["runs"][name], found, arrays))
            report(name, "differs" if rows else "equal", rows or [("", "equal", "")])
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + ".")
    return int(bool(counts["differs"] or counts["missing"]))


def main(arguments: list[str] | None = None) -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "compare", "list"))
    parser.add_argument("file", type=Path, nargs="?", default=Path("volumes.json"), metavar="FILE.json")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these runs only; `list` names all")
    parser.add_argument("--dropped", nargs="+", default=[], metavar="NAME", help="runs whose feature was removed")
    given = parser.parse_args(arguments)
    known = list(all_runs())
    if given.action == "list":
        print("\n".join(known))
        return 0
    if given.action == "compare":
        recorded = list(json.loads(given.file.read_text())["runs"])
        return compare(given.file, given.only or recorded, given.dropped)
    if unknown := [name for name in given.only or [] if name not in known]:
        parser.error(f"--only: there is no run {', '.join(unknown)}; `list` names all")
    record(given.file, given.only or known)
    return 0


if __name__ == "__main__":
    sys.exit(main())
