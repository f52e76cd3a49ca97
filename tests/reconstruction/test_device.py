"""Devices: what is there, in words."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from napari_d3ip.device import available_devices

GIB = 2**30


def test_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert available_devices() == {"auto": "cpu", "cpu": f"{os.cpu_count()} cores"}


def test_two_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(index: int) -> tuple[int, int]:
        if index:
            raise RuntimeError("all CUDA-capable devices are busy or unavailable")
        return 20 * GIB, 24 * GIB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=24 * GIB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    found = available_devices()
    assert list(found) == ["auto", "cpu", "cuda:0", "cuda:1"]
    assert found["auto"] == "cuda:0"
    assert found["cuda:0"] == "GPU 0, 20 of 24 GiB free"
    assert found["cuda:1"] == "GPU 1, 24 GiB, in use"


@pytest.mark.gpu
def test_memory_of_a_real_device() -> None:
    assert "GiB free" in available_devices()["cuda:0"]
