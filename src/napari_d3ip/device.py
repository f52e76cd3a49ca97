"""Devices, memory, and versions of the software that affects the numbers.

``python -m napari_d3ip.device`` prints `available_devices` as JSON.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from napari_d3ip.errors import DeviceError

# Messages of torch about CPU memory on Linux and Windows, of CUDA and oneDNN, and of Python constructors in C.
_FULL = (
    *("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "alloc_failed"),
    *("std::bad_alloc", "could not create a primitive", "could not create a memory object"),
)
_NO_OBJECT = ("returned NULL without setting an exception", "returned a result with an exception set")


def resolve_device(name: str) -> torch.device:
    """Return the device for a name; ``auto`` selects the first CUDA device, else the CPU.

    Raises
    ------
    DeviceError
        If the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "mps":
        raise DeviceError("device: mps does not support the projector's sparse matrices; use cpu or cuda.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device: must be auto, cpu, cuda or cuda:N, got '{name}'.") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(
            f"device: {name} is not available ({torch.cuda.device_count()} CUDA devices); use auto or cpu."
        )
    return device


@contextmanager
def enough_memory() -> Iterator[None]:
    """Translate out-of-memory exceptions to one sentence.

    Raises
    ------
    DeviceError
        If the memory was not sufficient.
    """
    try:
        yield
    except DeviceError:  # Says it better.
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise DeviceError(
                "memory: insufficient for this run; lower batch_slices, or reconstruct fewer slices at a time."
            ) from error
        raise


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, reports insufficient memory."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = str(error).lower()
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError | OSError | ImportError) and any(part in text for part in _FULL):
            return True
        if isinstance(error, SystemError) and any(part.lower() in text for part in _NO_OBJECT):
            return True
        error = error.__cause__ or error.__context__
    return False


def available_devices() -> dict[str, str]:
    """Return the names of the devices for settings, and their descriptions; the first is ``auto``.

    On CUDA devices this allocates some memory until the process ends.
    """
    taken = resolve_device("auto").type.replace("cuda", "cuda:0")
    devices = {"auto": taken, "cpu": f"{os.cpu_count() or 1} cores"}
    for index in range(torch.cuda.device_count()):
        devices[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, {_describe_memory(index)}"
    return devices


def _describe_memory(index: int) -> str:
    total = torch.cuda.get_device_properties(index).total_memory / 2**30
    try:
        free = torch.cuda.mem_get_info(index)[0] / 2**30
    except RuntimeError:  # Another process has exclusive use of the device.
        return f"{total:.0f} GiB, in use"
    return f"{free:.0f} of {total:.0f} GiB free"


def describe_device(device: torch.device) -> str:
    """Describe a device and its hardware, for the record."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({platform.processor() or platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def peak_memory(device: torch.device) -> int | None:
    """Return the peak bytes: allocated by torch on CUDA, resident in the process on the CPU; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource  # Not available on Windows.

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB.


def versions() -> dict[str, str]:
    """Return the versions of the software that affects the numbers."""
    names = ("napari-d3ip", "torch", "diffusers", "peft", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


if __name__ == "__main__":
    print(json.dumps(available_devices()))
