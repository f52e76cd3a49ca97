"""The process in which changed files are opened: crashes of native libraries end it, and not the driver."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.doors import Attempts
from tests.fuzz.formats import FORMATS

GROWTH = 2**30
_ADDRESS_SPACE = 12 * 2**30  # So that a test of the readers does not test the machine.
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _memory(what: str) -> int:
    """Resident bytes now (``VmRSS``), or the most since `_forget_peak` (``VmHWM``); 0 where it is not known."""
    if not _STATUS.exists():
        return 0
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def prepare(name: str, out: Path) -> Path:
    """Write the valid files of a format, once, and return the folder of its cases."""
    folder = out / name
    for number in range(FORMATS[name].variants):
        place = folder / "seed" / str(number)
        if not place.exists():
            place.mkdir(parents=True)
            made = FORMATS[name].make(place, number)
            (folder / "seed" / f"{number}.name").write_text(made.name)
    return folder


def _copy(folder: Path, variant: int, case: str) -> Path:
    """Copy the valid files of a variant and return the path of the one to open."""
    shutil.rmtree(folder / case, ignore_errors=True)
    shutil.copytree(folder / "seed" / str(variant), folder / case, symlinks=True)
    return folder / case / (folder / "seed" / f"{variant}.name").read_text()


def open_valid(name: str, out: Path) -> None:
    """Check that the valid files are valid, without which changing them would show nothing."""
    for variant in range(FORMATS[name].variants):
        attempt, path = Attempts(), _copy(prepare(name, out), variant, "valid")
        FORMATS[name].open(path, attempt)
        if attempt.found or not attempt.accepted:
            raise ValueError(f"{name} {variant} is not accepted: {attempt.found or attempt.refused}")
    shutil.rmtree(out / name / "valid")


def run_case(name: str, number: int, seed: int, out: Path, is_apart: bool = False) -> dict[str, Any]:
    """Change a valid file and open it, in this process or behind it; the case is the same whenever it is run."""
    one = FORMATS[name]
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed, number])
    path = _copy(out / name, int(rng.integers(one.variants)), str(number))
    one.change(rng, path)
    print(json.dumps({"made": str(path)}), file=_answers, flush=True)
    attempt = Attempts(is_apart=is_apart)
    before = _memory("VmRSS")
    _forget_peak()
    one.open(path, attempt)
    grown = _memory("VmHWM") - before
    if grown > GROWTH:
        attempt.note("memory", f"{grown / 2**30:.1f} GiB")
    attempt.found += [("leftover", item.name) for item in (out / name / str(number)).rglob("*.part")]
    return {"number": number, "accepted": attempt.accepted, "found": attempt.found}


def main() -> None:
    """Answer requests, a JSON object a line: name, number, seed."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logging.disable()
    out = Path(sys.argv[1])
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["number"] is None:
            open_valid(asked["name"], out)
            print(json.dumps({"ready": asked["name"]}), file=_answers, flush=True)
        else:
            print(json.dumps(run_case(out=out, **asked)), file=_answers, flush=True)


# What libraries print must not be taken for answers.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
if __name__ == "__main__":
    main()
