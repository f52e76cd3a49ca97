"""The formats that are fuzzed: how a valid file is made, changed and opened."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz import doors, own, scans
from tests.fuzz.content import (
    as_text,
    change_bytes,
    change_json,
    change_json_file,
    change_text,
    change_text_file,
    change_tree,
)
from tests.fuzz.structure import change_arrays, change_hdf5
from tests.fuzz.values import Rng, anything, other_array, pick

Change = Callable[[Rng, Path], None]


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    make : callable
        Writes the valid file of a number into a folder and returns its path.
    variants : int
        How many valid files there are.
    change : callable
        Changes a copy of it at random.
    open : callable
        Opens it as a user would.
    needs_seed : bool
        Whether opening needs the valid files beside the changed one: they are copied too, in any case.
    """

    make: Callable[[Path, int], Path]
    variants: int
    change: Change
    open: Callable[[Path, doors.Attempts], None]


def _npz(folder: Path, number: int) -> Path:
    arrays = scans.arrays_of_kspace() if number % 2 else scans.arrays_of_sinogram()
    (np.savez_compressed if number > 1 else np.savez)(folder / "scan.npz", **arrays)
    return folder / "scan.npz"


def _change_npz(rng: Rng, path: Path) -> None:
    if rng.random() < 0.5:
        with np.load(path) as archive:
            arrays = change_arrays(rng, dict(archive))
        np.savez(path, **{name: value for name, value in arrays.items() if "/" not in name})
        if rng.random() < 0.9:
            return
    change_bytes(rng, path)


def _npy(folder: Path, number: int) -> Path:
    path = folder / "scan.npy"
    if number == 2:
        return own.result(folder, 1)
    np.save(path, scans.KSPACE if number else scans.INTEGRALS)
    np.savetxt(folder / "scan.angles.txt", scans.ANGLES)
    return path


def _change_npy(rng: Rng, path: Path) -> None:
    """Change the array, the text of its header, or bytes; or the JSON beside it."""
    how, beside = int(rng.integers(4)), path.with_name(path.name + ".json")
    if how == 0 and beside.exists():
        change_json_file(rng, beside)
    elif how == 1:
        np.save(path, other_array(rng, np.load(path)), allow_pickle=True)
    elif how == 2:
        content = path.read_bytes()
        end = 10 + int.from_bytes(content[8:10], "little")
        header = change_text(rng, content[10:end].decode("latin1")).encode("latin1", "replace")[:60000]
        path.write_bytes(content[:8] + len(header).to_bytes(2, "little") + header + content[end:])
    else:
        change_bytes(rng, path)


def _mat(folder: Path, number: int) -> Path:
    arrays = scans.arrays_of_kspace() if number == 1 else scans.arrays_of_sinogram()
    return scans.mat(folder, arrays, number)


def _change_mat(rng: Rng, path: Path) -> None:
    if rng.random() < 0.35:
        arrays = change_arrays(rng, pick(rng, (scans.arrays_of_kspace, scans.arrays_of_sinogram))())
        try:
            scans.mat(path.parent, arrays, int(rng.integers(4)))
        except (TypeError, ValueError):  # MATLAB has no such type.
            change_bytes(rng, path)
    else:
        change_bytes(rng, path)


def _angles(folder: Path, number: int) -> Path:
    np.save(folder / "scan.npy", scans.INTEGRALS)
    name = ("scan.angles.txt", "scan.tlt", "scan.csv", "scan.tsv", "scan.rawtlt", "scan_angles.npy")[number]
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, scans.ANGLES)
    elif name[-4:] in (".csv", ".tsv"):
        separator = "," if name.endswith(".csv") else "\t"
        lines = [separator.join((str(row), f"{angle}", "x")) for row, angle in enumerate(scans.ANGLES)]
        path.write_text("\n".join([separator.join(("number", "angle_deg", "note")), *lines]) + "\n")
    else:
        np.savetxt(path, scans.ANGLES)
    return path


def _change_angles(rng: Rng, path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, other_array(rng, scans.ANGLES), allow_pickle=True)
    elif rng.random() < 0.8:
        change_text_file(rng, path)
    else:
        change_bytes(rng, path)


def _change_bart(rng: Rng, path: Path) -> None:
    how = int(rng.integers(4))
    if how < 2:
        change_text_file(rng, path.with_suffix(".hdr"))
    elif how == 2:
        change_bytes(rng, path.with_suffix(".hdr"))
    else:
        change_bytes(rng, path)


def _change_twix(rng: Rng, path: Path) -> None:
    """Change the table of measurements, the protocol in its text, or the headers of the readouts behind it."""
    content = path.read_bytes()
    begin = 10240 if int.from_bytes(content[:4], "little") < 10000 else 0
    end = begin + int.from_bytes(content[begin : begin + 4], "little")
    how = int(rng.integers(4))
    if how == 0:
        change_bytes(rng, path, 0, begin + 64)
    elif how == 1:
        place = content.find(b"### ASCCONV", begin)
        text = content[place:end].decode("latin1") if place > 0 else ""
        changed = change_text(rng, text).encode("latin1", "replace").ljust(len(text))[: len(text)]
        path.write_bytes(content[: end - len(text)] + changed + content[end:])
    elif how == 2:
        change_bytes(rng, path, end, end + 512)
    else:
        change_bytes(rng, path, end)


def _change_nifti(rng: Rng, path: Path) -> None:
    change_bytes(rng, path, 0, pick(rng, (352, 352, 800, None)))
    if rng.random() < 0.3:  # Named by the test, so that it can be opened as what it is called.
        path.write_bytes(gzip.compress(path.read_bytes()))


def _change_mrc(rng: Rng, path: Path) -> None:
    """Change the header, the extended one, or the mdoc beside it."""
    mdoc = path.with_name(path.name + ".mdoc")
    if mdoc.exists() and rng.random() < 0.5:
        change_text_file(rng, mdoc)
    else:
        change_bytes(rng, path, 0, pick(rng, (256, 1024, 2048, None)))


def _change_folder(rng: Rng, path: Path, change: Change) -> None:
    """Change the JSON, tensors or chunks of a folder, or the folder itself."""
    files = [item for item in sorted(path.rglob("*")) if item.is_file()]
    if rng.random() < 0.12:
        change_tree(rng, path)
    elif rng.random() < 0.65:
        change_json_file(rng, pick(rng, [one for one in files if one.suffix == ".json" or one.name[:2] == ".z"]))
    else:
        change(rng, pick(rng, [one for one in files if one.suffix != ".json" and one.name[:2] != ".z"] or files))


def _change_images(rng: Rng, path: Path) -> None:
    for _ in range(int(rng.integers(1, 3))):
        if rng.random() < 0.2:
            change_tree(rng, path)
        else:
            file = pick(rng, [item for item in sorted(path.iterdir()) if item.is_file()])
            (change_text_file if file.suffix == ".txt" else change_bytes)(rng, file)


def _change_safetensors(rng: Rng, path: Path) -> None:
    """Change the JSON at the beginning of a safetensors file, or bytes of any other."""
    content = path.read_bytes()
    if path.suffix != ".safetensors" or rng.random() < 0.5:
        return change_bytes(rng, path)
    size = struct.unpack("<Q", content[:8])[0]
    header = as_text(change_json(rng, json.loads(content[8 : 8 + size]))).encode("utf-8", "replace")
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + size :])


def _change_checkpoint(rng: Rng, path: Path) -> None:
    """Change the content, with a digest that is right, or bytes."""
    import torch

    from napari_d3ip.prior.saving import digest_of

    if rng.random() < 0.4:
        return change_bytes(rng, path)
    content = torch.load(path, weights_only=True)
    digest = content.pop("digest")
    for _ in range(int(rng.integers(1, 3))):
        content = _change_state(rng, content)
    if isinstance(content, dict):
        content["digest"] = digest_of(content) if rng.random() < 0.9 else digest
    torch.save(content, path)


def _change_state(rng: Rng, value: Any) -> Any:
    """Change one place of a state: containers, numbers and tensors."""
    import torch

    if isinstance(value, torch.Tensor):
        array = other_array(rng, value.detach().numpy())
        try:
            return torch.tensor(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
        except (TypeError, ValueError):
            return pick(rng, (None, 3, torch.zeros(0), torch.full((2, 2), float("nan"))))
    if isinstance(value, dict) and value and rng.random() < 0.95:
        value, key = dict(value), pick(rng, list(value))
        if rng.random() < 0.1:
            del value[key]
        else:
            value[key] = _change_state(rng, value[key])
        return value
    if isinstance(value, list | tuple) and value and rng.random() < 0.9:
        items, place = list(value), int(rng.integers(len(value)))
        if rng.random() < 0.2:
            del items[place]
        else:
            items[place] = _change_state(rng, items[place])
        return type(value)(items)
    return anything(rng)


def _change_result(rng: Rng, path: Path) -> None:
    """Change the note of a result, which strangers may have written, or the file that holds it."""
    number = ("result.tif", "result.npy", "result.h5", "result.nii", "result.zarr", "result.ome.tif").index(path.name)
    if rng.random() < 0.8:
        own.result(path.parent, number, as_text(_note(rng, path)))
    elif path.is_dir():
        _change_folder(rng, path, change_bytes)
    else:
        change_bytes(rng, path)


def _note(rng: Rng, path: Path) -> Any:
    from napari_d3ip.io import load_volume
    from napari_d3ip.io.volumes.base import make_note

    note = json.loads(make_note(load_volume(path), path))
    for _ in range(int(rng.integers(1, 4))):
        changed = change_json(rng, note)
        note = changed if isinstance(changed, dict) and rng.random() < 0.98 else note
    return note if rng.random() < 0.9 else note | {"kind": "volume"}


FORMATS = {
    "tiff": Format(scans.tiff, 6, change_bytes, doors.open_both),
    "tiff-folder": Format(scans.tiff_folder, 2, _change_images, doors.open_scan),
    "dxchange": Format(scans.dxchange, 2, change_hdf5, doors.open_scan),
    "nxtomo": Format(scans.nxtomo, 2, change_hdf5, doors.open_scan),
    "hyperspy": Format(scans.hyperspy, 2, change_hdf5, doors.open_scan),
    "emd": Format(scans.emd, 2, change_hdf5, doors.open_scan),
    "hdf5": Format(scans.hdf5, 3, change_hdf5, doors.open_both),
    "npz": Format(_npz, 4, _change_npz, doors.open_scan),
    "npy": Format(_npy, 3, _change_npy, doors.open_both),
    "mat": Format(_mat, 4, _change_mat, doors.open_scan),
    "mat73": Format(scans.mat73, 2, change_hdf5, doors.open_scan),
    "angles": Format(_angles, 6, _change_angles, doors.open_angles),
    "fastmri": Format(scans.fastmri, 2, change_hdf5, doors.open_scan),
    "ismrmrd": Format(scans.ismrmrd_scan, 2, change_hdf5, doors.open_scan),
    "twix": Format(scans.twix, 2, _change_twix, doors.open_scan),
    "bart": Format(scans.bart, 2, _change_bart, doors.open_scan),
    "scanner-text": Format(scans.scanner_text, 2, change_text_file, doors.open_scan),
    "mrc": Format(scans.mrc, 3, _change_mrc, doors.open_both),
    "nifti": Format(scans.nifti, 2, _change_nifti, doors.open_volume),
    "zarr": Format(scans.zarr, 3, partial(_change_folder, change=change_bytes), doors.open_volume),
    "prior": Format(own.prior, 2, partial(_change_folder, change=_change_safetensors), doors.open_prior),
    "adapter": Format(own.adapter, 2, partial(_change_folder, change=_change_safetensors), doors.open_adapter),
    "checkpoint": Format(own.checkpoint, 1, _change_checkpoint, doors.open_checkpoint),
    "result": Format(own.result, 6, _change_result, doors.open_result),
    "settings": Format(own.settings_file, 2, change_json_file, doors.open_settings),
}
