"""State of interrupted runs: what is not exactly what was written is refused, in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_d3ip.device import enough_memory
from napari_d3ip.errors import DeviceError, FileError
from napari_d3ip.preparation import prepare
from napari_d3ip.prior.saving import digest_of, load_tensors, save_tensors
from napari_d3ip.reconstruction import Control, Reconstruction, iter_reconstruct, reconstruct
from napari_d3ip.reconstruction.checkpoint import Checkpoint
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.problem import Problem


@pytest.fixture(scope="module")
def scan(make_scan: Callable[..., Any]) -> Any:
    return make_scan()


@pytest.fixture(scope="module")
def settings(tiny: dict[str, Any]) -> Settings:
    return Settings.create(tiny, method="d3ip", steps=2, adapt_steps=1, adapt_slices=1, lora_rank=1)


@pytest.fixture(scope="module")
def problem(scan: Any, settings: Settings) -> Problem:
    """As the engine hands it to the checkpoint."""
    return prepare(scan.measurement, resolve(settings, scan.measurement), torch.device("cpu"), Control().check).problem


@pytest.fixture(scope="module")
def whole(scan: Any, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Checkpoint of a run that ended after its first sampling step."""
    path = tmp_path_factory.mktemp("checkpoint") / "run.checkpoint"
    for step in iter_reconstruct(scan.measurement, settings, checkpoint=path):
        if step.phase == "sampling":
            break
    return path.read_bytes()


@pytest.fixture
def written(whole: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(whole)
    return path


def resume(scan: Any, settings: Settings, path: Path) -> Reconstruction:
    return reconstruct(scan.measurement, settings, checkpoint=path, resume=True)


def test_flipped_bits_give_the_same_volume_or_a_refusal(
    scan: Any, settings: Settings, whole: bytes, written: Path
) -> None:
    expected = resume(scan, settings, written).volume
    generator = np.random.default_rng(0)
    refused = same = 0
    for position in sorted(generator.choice(len(whole), 30, replace=False)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        written.write_bytes(damaged)
        try:
            load_tensors(written)
        except FileError:
            refused += 1
        else:  # What was flipped is padding, a date, or a checksum that nobody reads.
            if same < 1:
                assert np.array_equal(resume(scan, settings, written).volume, expected)
            same += 1
    assert refused > 10


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content.update(index=1 + content["index"]), id="index"),
        pytest.param(lambda content: content["x_t"].view(torch.int32).flatten()[:1].bitwise_xor_(1), id="one bit"),
        pytest.param(lambda content: content.update(volume=content["volume"].double()), id="type"),
        pytest.param(lambda content: content.pop("duals"), id="key"),
    ],
)
def test_content_that_is_not_what_was_digested(
    scan: Any, settings: Settings, written: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    content = torch.load(written, weights_only=True)
    change(content)
    torch.save(content, written)
    with pytest.raises(FileError, match=r"^resume: .* is damaged .*; delete it and start again\.$"):
        resume(scan, settings, written)


def test_without_digest(scan: Any, settings: Settings, written: Path) -> None:
    content = torch.load(written, weights_only=True)
    del content["digest"]
    torch.save(content, written)
    with pytest.raises(FileError, match=r"^resume: .* no digest .*; delete it and start again\.$"):
        resume(scan, settings, written)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("index", value) for value in (-1, 99, 1.0, True, None, "1")),
        *(("x_t", value) for value in (torch.zeros(1), torch.full((1, 1, 1), torch.nan), None, 3)),
        ("volume", torch.zeros(2, 3, 4)),
        *(("generator", value) for value in (torch.zeros(3), torch.zeros(5056, dtype=torch.uint8), None)),
        ("adaptation_generator", "a"),
        ("adapters", [{}]),
        ("adapters", [1]),
        ("adapters", [{"parameters": [], "average": []}]),
        ("adapters", None),
        ("splits", [1]),
        ("splits", 3),
        ("splits", {}),
        ("splits", [None, None]),
        *(("duals", value) for value in ({}, 1, {"terms": 1})),
        ("history", None),
        ("history", [{}]),
        ("history", [1]),
        ("history", [{"phase": "sampling", "seconds": float("nan")}]),
        *(("probe", value) for value in ("a", None)),
        ("fingerprint", None),
        ("format", 3),
    ],
)
def test_content_that_cannot_be(scan: Any, problem: Problem, written: Path, name: str, value: Any) -> None:
    """Written by somebody who takes the digest along."""
    save_tensors({**load_tensors(written), name: value}, written)
    with pytest.raises(FileError, match=r"^resume: .*; delete it (and|or) .*\.$") as caught:
        Checkpoint(written, scan.measurement, problem.settings.filled).load(problem)
    assert "\n" not in str(caught.value)


def test_content_that_is_missing(scan: Any, problem: Problem, written: Path) -> None:
    whole = load_tensors(written)
    checkpoint = Checkpoint(written, scan.measurement, problem.settings.filled)
    assert checkpoint.load(problem) is not None
    for name in whole:
        save_tensors({key: value for key, value in whole.items() if key != name}, written)
        with pytest.raises(FileError):
            checkpoint.load(problem)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_checkpoint_is_left_alone(scan: Any, settings: Settings, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"^checkpoint: .* holds something else"):
        resume(scan, settings, path)
    assert path.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(scan: Any, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    os.mkfifo(path)
    with pytest.raises(FileError, match=r"^checkpoint: "):
        resume(scan, settings, path)
    with pytest.raises(FileError, match="pipe"):
        load_tensors(path)


def test_digest_tells_apart_what_looks_alike() -> None:
    contents = [
        {"a": 1},
        {"a": 1.0},
        {"a": True},
        {"a": "1"},
        {"a": [1]},
        {"a": (1,)},
        {"a": None},
        {"b": 1},
        {"a": [1, [2]]},
        {"a": [[1], 2]},
        *(
            {"a": torch.zeros(shape, dtype=dtype)}
            for shape in (4, (2, 2), 0)
            for dtype in (torch.float32, torch.int32)
        ),
        {"a": torch.zeros(4, dtype=torch.bfloat16)},
        {"a": torch.zeros(4, dtype=torch.complex64)},
    ]
    assert len({digest_of(content) for content in contents}) == len(contents)
    assert digest_of({"a": torch.arange(6).reshape(2, 3).T}) == digest_of(
        {"a": torch.tensor([[0, 3], [1, 4], [2, 5]])}
    )


def test_round_trip(tmp_path: Path) -> None:
    content = {"a": [torch.arange(3), {"b": torch.tensor(1 + 2j)}], "c": (1, 2.5, None, "d")}
    save_tensors(content, tmp_path / "state")
    assert digest_of(load_tensors(tmp_path / "state")) == digest_of(content)


def test_memory_that_runs_out_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object) -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise RuntimeError("[enforce fail at inline_container.cc:892]") from error

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(DeviceError, match="memory: insufficient"), enough_memory():
        save_tensors({"a": torch.zeros(1)}, tmp_path / "state")
    assert not list(tmp_path.iterdir())
