"""Fuzz the readers: ``python -m tests.fuzz FORMAT COUNT``, where FORMAT may be ``all``.

Cases are numbered and seeded; what was done before in the same folder is not done again. Every input that fails is
kept there, as ``FORMAT/NUMBER``, with what went wrong in ``FORMAT.jsonl``. An input that crashes or hangs a library is
opened again as napari and the command line do, in a process of its own, and counts as caught if that ends in a
sentence. Exit code 1 if there were failures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

FAILURES = ("foreign", "message", "result", "hang", "crash", "memory", "leftover")
COLUMNS = ("inputs", "accepted", "refused", "caught hang", "caught crash", "not made", *FAILURES)
# A hang is so much processor time, or, of a process that waits for something, so much time.
CPU_SECONDS, SECONDS, PREPARING = 5.0, 40.0, 300.0


class Child:
    """A process that opens files; started when it is needed, again after it has ended."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def ask(self, request: dict[str, Any], cpu: float, seconds: float) -> tuple[dict[str, Any] | None, str]:
        """Return the last answer to a request, or None and how the process ended: ``hang`` or ``crash`` and why.

        ``not made`` if that was before the input was complete: libraries that write it are no safer than others.
        """
        process = self._started()
        assert process.stdin is not None
        watched = psutil.Process(process.pid)
        print(json.dumps(request), file=process.stdin, flush=True)
        begin, used, is_made = time.monotonic(), _used(watched), request["number"] is None
        while True:
            try:
                line = self._lines.get(timeout=0.5)
            except queue.Empty:
                if not _waits(watched):  # Other programs may keep it from the processor.
                    begin = time.monotonic()
                if _used(watched) - used > cpu or time.monotonic() - begin > seconds:
                    self.end()
                    return None, "hang" if is_made else "not made: hang"
                continue
            if not line:
                code = process.wait()
                self.end()
                return None, f"{'crash' if is_made else 'not made'}: exit code {code}"
            answer = json.loads(line)
            if "made" not in answer:
                return answer, ""
            begin, used, is_made = time.monotonic(), _used(watched), True

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            with (self._out / "stderr.txt").open("a") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.fuzz.child", str(self._out)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            self._lines = queue.Queue()
            threading.Thread(target=_collect, args=(self._process, self._lines), daemon=True).start()
        return self._process

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            with self._process:  # Waits, and closes its pipes.
                self._process = None


def _collect(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # Closed.
        for line in process.stdout:
            lines.put(line)
    lines.put("")


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _waits(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_RUNNING
    except psutil.Error:
        return True


def fuzz(name: str, count: int, seed: int, out: Path, child: Child) -> Counter[str]:
    """Run the cases of a format that were not run before, and count how all of them ended."""
    log = out / f"{name}.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {record["number"] for record in done}
    ready, how = child.ask({"name": name, "number": None}, PREPARING, PREPARING)
    if ready is None:
        raise SystemExit(f"{name}: the valid files could not be made ({how}); see {out / 'stderr.txt'}.")
    with log.open("a") as file:
        for number in sorted(set(range(count)) - known):
            record = _record(child, name, number, seed)
            if not record["found"]:
                shutil.rmtree(out / name / str(number))
            print(json.dumps(record), file=file, flush=True)
            done.append(record)
    ends: Counter[str] = Counter()
    for record in done:
        ends["inputs"] += 1
        for kind in {kind for kind, _ in record["found"]}:
            ends[kind] += 1
        if not record["found"]:
            ends["accepted" if record["accepted"] else "refused"] += 1
    return ends


def _record(child: Child, name: str, number: int, seed: int) -> dict[str, Any]:
    """Run a case, and a second time behind the boundary of processes if it ends the first process."""
    case = {"name": name, "number": number, "seed": seed}
    record, how = child.ask(case, CPU_SECONDS, SECONDS)
    if record is not None:
        return record
    if how.startswith("not made"):
        return {"number": number, "accepted": False, "found": [("not made", how)]}
    kind, again = how.partition(":")[0], child.ask({**case, "is_apart": True}, PREPARING, PREPARING)[0]
    found = [(kind, how)] if again is None else [(f"caught {kind}", how), *again["found"]]
    return {"number": number, "accepted": False, "found": found}


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("format", help="a format, several with commas, or all")
    parser.add_argument("count", type=int, help="cases of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for failing inputs and records")
    given = parser.parse_args()
    from tests.fuzz.formats import FORMATS

    names = list(FORMATS) if given.format == "all" else given.format.split(",")
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        parser.error(f"no format {unknown[0]}; there are {', '.join(FORMATS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    child = Child(given.out)
    print("| format | " + " | ".join(COLUMNS) + " |\n|---" + "|---:" * len(COLUMNS) + "|", flush=True)
    failed = False
    try:
        for name in names:
            ends = fuzz(name, given.count, given.seed, given.out, child)
            failed |= any(ends[kind] for kind in FAILURES)
            print(f"| {name} | " + " | ".join(str(ends[column]) for column in COLUMNS) + " |", flush=True)
    finally:
        child.end()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
