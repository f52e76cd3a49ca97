"""Runs of an evaluation in parallel processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import D3IPError
from napari_d3ip.evaluate.folder import Row
from napari_d3ip.evaluate.plan import Plan, RunSpec
from napari_d3ip.evaluate.run import LoadedScan
from napari_d3ip.evaluate.scans import Scan

Wish = TypeVar("Wish")
Gain = TypeVar("Gain")
Made = tuple[Row, Row, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Job:
    """Run of one process.

    Parameters
    ----------
    scan, plan, wanted
        The run.
    about : dict
        Columns that identify it in tables.
    name : str
        Name for messages.
    """

    scan: Scan
    plan: Plan
    wanted: RunSpec
    about: Row
    name: str


def run_side_by_side(jobs: Sequence[Job], known: Set[str], count: int) -> Iterator[tuple[Job, Made | None]]:
    """Run jobs, ``count`` at a time, and yield each when it finishes.

    Parameters
    ----------
    jobs : sequence of Job
        Jobs to run.
    known : set of str
        Keys of rows that need no run.
    count : int
        Number of processes.

    Yields
    ------
    job : Job
    made : tuple or None
        ``about`` with its key, row and middle slice; None if the row was known.

    Raises
    ------
    D3IPError
        If a run fails; the others are then terminated.
    """
    yield from in_processes(partial(_run, known), jobs, lambda job: job.name, count)


def in_processes(
    run: Callable[[Wish], Gain], wishes: Sequence[Wish], name: Callable[[Wish], str], count: int
) -> Generator[tuple[Wish, Gain]]:
    """Call ``run`` with each of ``wishes`` in processes that share the cores, and yield each result when it finishes.

    Raises
    ------
    D3IPError
        If one fails, with its ``name``; the others are then terminated, as when the caller stops iterating.
    """
    # CUDA does not survive a fork.
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // count)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(threads,))
    try:
        running: dict[Future[Gain], Wish] = {pool.submit(run, wish): wish for wish in wishes}
        for future in as_completed(running):
            wish = running.pop(future)
            try:
                yield wish, future.result()
            except D3IPError as error:
                raise D3IPError(f"{name(wish)}: {error}") from error
    except BaseException:
        # Their results are not needed, and may take hours.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(threads: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the parent terminates these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)


def _run(known: Set[str], job: Job) -> Made | None:
    loaded = LoadedScan(job.scan, *job.scan.load(), job.plan)
    settings = loaded.settings(job.wanted)
    key = loaded.key(settings)
    return None if key in known else ({"key": key, **job.about}, *loaded.run(settings))
