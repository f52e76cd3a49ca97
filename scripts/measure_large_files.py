"""What describing a large file of every format, and reading two slices of it, takes: memory, time, and bytes read.

    python scripts/measure_large_files.py FOLDER [--only NAME ...] [--measure WAY ...] [--gigabytes 7] [--csv FILE]

Writes a file of each format in turn, with holes where the file system has them, reads it in a process of its own, and
removes it. Formats that cannot have holes are written as they are, of at most 2 GB. ``whole`` asks for all slices
where 1 GB of memory may be allocated (``ulimit -v``): this must end in a sentence, and at once. ``info`` describes the
scan. Linux.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

ROWS, COLUMNS, COILS, LINES = 1200, 1600, 16, 512
FIRST = 600
CT = {"angles": "0:180", "values": "line_integrals"}
READ = """
import json, resource, sys, time
sys.path[:0] = [""]
from pathlib import Path
import napari_d3ip.io.registry as registry
from napari_d3ip.errors import D3IPError
from napari_d3ip.io import ReadOptions, read
from napari_d3ip.io.excerpt import describe
registry.formats()
path, options, limit = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
peak = lambda: 1024 * int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
open("/proc/self/clear_refs", "w").write("5")  # Forgets the peak from before.
before = peak()
used = lambda: int(next(l for l in open("/proc/self/io") if l.startswith("rchar")).split()[1])
if limit:
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + limit,) * 2)
begin, cpu, bytes_before = time.monotonic(), time.process_time(), used()
try:
    if options.pop("info", False):
        shape = describe(path, ReadOptions.create(options))["shape"]
    else:
        shape = list(read(path, **options).data.shape)
    says = ""
except D3IPError as error:
    shape, says = None, str(error)
print(json.dumps({"shape": shape, "says": says, "seconds": time.monotonic() - begin, "cpu": time.process_time() - cpu,
                  "memory": peak() - before, "read": used() - bytes_before}))
"""


@dataclass
class Case:
    """A file and how it is read."""

    write: Callable[[Path, int], Path]
    options: dict[str, Any]
    slices: str = f"{FIRST}:{FIRST + 2}"


def _views(gigabytes: int) -> int:
    return gigabytes * 10**9 // (2 * ROWS * COLUMNS)


def _slices(gigabytes: int) -> int:
    return gigabytes * 10**9 // (8 * COILS * LINES**2)


def _fill(file: Any, offset: int, views: int) -> None:
    """Write the rows that are read later, of every view; the others stay holes."""
    row = np.full((3, COLUMNS), 500, np.uint16).tobytes()
    for view in range(views):
        file.seek(offset + 2 * COLUMNS * (view * ROWS + FIRST - 1))
        file.write(row)
    file.truncate(offset + 2 * COLUMNS * ROWS * views)


def npy(path: Path, gigabytes: int) -> Path:
    views = _views(gigabytes)
    with path.open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": (views, ROWS, COLUMNS)}
        np.lib.format.write_array_header_1_0(file, header)
        _fill(file, file.tell(), views)
    return path


def npy_fortran(path: Path, gigabytes: int) -> Path:
    count = gigabytes * 10**9 // (4 * 1800 * COLUMNS)
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": True, "shape": (COLUMNS, 1800, count)}
        np.lib.format.write_array_header_1_0(file, header)
        begin, size = file.tell(), 4 * 1800 * COLUMNS
        for place in (FIRST, count // 2 - 1):
            file.seek(begin + place * size)
            file.write(np.ones(2 * 1800 * COLUMNS, np.float32).tobytes())
        file.truncate(begin + size * count)
    return path


def npz(path: Path, gigabytes: int) -> Path:
    """Without compression: local header, values with holes, and the archive's directory, in the form of over 4 GB."""
    import struct

    inner = npy(path.with_suffix(".npy"), gigabytes)
    size, name, crc = inner.stat().st_size, b"data.npy", 0
    with inner.open("rb") as file:
        while block := file.read(2**24):
            crc = zlib.crc32(block, crc)
    with inner.open("rb") as file:
        header = file.read(128)
        (views,) = np.lib.format.read_array_header_1_0(_after_magic(inner))[0][:1]
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    with path.open("wb") as file:
        file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 33, crc, 2**32 - 1, 2**32 - 1, len(name), 20))
        file.write(name + extra)
        begin = file.tell()
        file.write(header)
        _fill(file, begin + 128, views)
        file.seek(begin + size)
        central = struct.pack(
            "<4s6H3I5H2I",
            *(b"PK\1\2", 45, 45, 0, 0, 0, 33, crc, 2**32 - 1, 2**32 - 1, len(name), 20, 0, 0, 0, 0, 0),
        )
        file.write(central + name + extra)
        length, where = len(central + name + extra), begin + size
        file.write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, length, where))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, where + length, 1))
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, length, 2**32 - 1, 0))
    inner.unlink()
    return path


def _after_magic(path: Path) -> Any:
    file = path.open("rb")
    np.lib.format.read_magic(file)
    return file


def _dataset(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...] | None = None
) -> h5py.Dataset:
    """A data set whose place in the file is taken, but not filled."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        layout.set_chunk(chunks)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    made = h5py.h5d.create(
        group.id,
        name.encode(),
        h5py.h5t.py_create(np.dtype(dtype), logical=True),
        h5py.h5s.create_simple(shape),
        layout,
    )
    return h5py.Dataset(made)


def _scan(group: h5py.Group, name: str, gigabytes: int, chunks: tuple[int, ...] | None = None) -> h5py.Dataset:
    data = _dataset(group, name, (_views(gigabytes), ROWS, COLUMNS), np.uint16, chunks)
    for view in range(len(data)):
        data[view, FIRST - 1 : FIRST + 2] = 500
    return data


def hdf5(path: Path, gigabytes: int) -> Path:
    with h5py.File(path, "w") as file:
        _scan(file, "data", gigabytes)
    return path


def hdf5_chunked(path: Path, gigabytes: int) -> Path:
    with h5py.File(path, "w") as file:
        _scan(file, "data", gigabytes, (1, 120, 160))
    return path


def _compressed(path: Path, shape: tuple[int, int, int], chunks: tuple[int, int, int]) -> Path:
    """Every chunk with the same values, compressed once."""
    content = np.full(chunks, 500, np.uint16).tobytes()
    packed = zlib.compress(content, 1)
    del content
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", shape, np.uint16, chunks=chunks, compression="gzip")
        for place in np.ndindex(*(-(-size // step) for size, step in zip(shape, chunks, strict=True))):
            data.id.write_direct_chunk(tuple(one * step for one, step in zip(place, chunks, strict=True)), packed)
    return path


def hdf5_gzip(path: Path, gigabytes: int) -> Path:
    return _compressed(path, (_views(gigabytes), ROWS, COLUMNS), (1, 120, 160))


def hdf5_gzip_views(path: Path, gigabytes: int) -> Path:
    return _compressed(path, (_views(gigabytes), ROWS, COLUMNS), (1, ROWS, COLUMNS))


def hdf5_one_chunk(path: Path, gigabytes: int) -> Path:
    """A chunk has at most 4 GiB."""
    views = min(4, gigabytes) * 10**9 // (2 * ROWS * COLUMNS)
    return _compressed(path, (views, ROWS, COLUMNS), (views, ROWS, COLUMNS))


def data_exchange(path: Path, gigabytes: int) -> Path:
    with h5py.File(path, "w") as file:
        data = _scan(file.create_group("exchange"), "data", gigabytes)
        file["exchange/data_white"] = np.full((10, ROWS, COLUMNS), 1000, np.uint16)
        file["exchange/data_dark"] = np.zeros((10, ROWS, COLUMNS), np.uint16)
        file["exchange/theta"] = np.linspace(0, 180, len(data), endpoint=False)
    return path


def nxtomo(path: Path, gigabytes: int) -> Path:
    with h5py.File(path, "w") as file:
        data = _scan(file.create_group("entry/instrument/detector"), "data", gigabytes)
        keys = np.zeros(len(data), np.int64)
        keys[:10], data[:10] = 1, 1000
        file["entry/instrument/detector/image_key"] = keys
        file["entry/sample/rotation_angle"] = np.linspace(0, 180, len(data), endpoint=False)
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
    return path


def hyperspy(path: Path, gigabytes: int) -> Path:
    with h5py.File(path, "w") as file:
        _scan(file.create_group("Experiments/scan"), "data", gigabytes, (1, 120, 160))
    return path


def matlab(path: Path, gigabytes: int) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        _scan(file, "sinogram", gigabytes, (1, 120, 160)).attrs["MATLAB_class"] = np.bytes_("uint16")
    return path


def matlab_7(path: Path, gigabytes: int) -> Path:
    """A variable has at most 2 GiB."""
    import scipy.io

    views = min(2, gigabytes) * 10**9 // (2 * ROWS * COLUMNS)
    scipy.io.savemat(path, {"sinogram": np.full((views, ROWS, COLUMNS), 500, np.uint16)})
    return path


def tiff(path: Path, gigabytes: int) -> Path:
    views = _views(gigabytes)
    tifffile.imwrite(path, shape=(views, ROWS, COLUMNS), dtype=np.uint16, bigtiff=True, photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        offset = tif.series[0].dataoffset
    with path.open("r+b") as file:
        for view in range(views):
            file.seek(offset + 2 * COLUMNS * (view * ROWS + FIRST - 1))
            file.write(np.full((3, COLUMNS), 500, np.uint16).tobytes())
    return path


def tiff_pages(path: Path, gigabytes: int) -> Path:
    """A directory for every page, as scanners write them."""
    page = np.full((ROWS, COLUMNS), 500, np.uint16)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for _ in range(_views(min(2, gigabytes))):
            file.write(page, photometric="minisblack", metadata=None, contiguous=False)
    return path


def tiff_deflate(path: Path, gigabytes: int) -> Path:
    page = np.full((ROWS, COLUMNS), 500, np.uint16)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for _ in range(_views(min(2, gigabytes))):
            file.write(page, photometric="minisblack", compression="zlib", metadata=None)
    return path


def tiff_folder(path: Path, gigabytes: int) -> Path:
    path.mkdir()
    for view in range(_views(gigabytes)):
        image = path / f"image_{view:04d}.tif"
        tifffile.imwrite(image, shape=(ROWS, COLUMNS), dtype=np.uint16, photometric="minisblack")
        with tifffile.TiffFile(image) as tif:
            offset = tif.pages[0].dataoffsets[0]
        with image.open("r+b") as file:
            file.seek(offset + 2 * COLUMNS * (FIRST - 1))
            file.write(np.full((3, COLUMNS), 500, np.uint16).tobytes())
    return path


def _kspace() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((6, COILS, LINES, LINES)) + 1j).astype(np.complex64)


def bart(path: Path, gigabytes: int) -> Path:
    """Dimensions are (readout, phase, 1, coil, ..., slice), the first one changing fastest."""
    slices = _slices(gigabytes)
    sizes = [LINES, LINES, 1, COILS, *[1] * 9, slices, 1, 1]
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, sizes))}\n")
    with path.with_suffix(".cfl").open("wb") as file:
        file.seek(100 * 8 * COILS * LINES**2)
        file.write(_kspace().tobytes())
        file.truncate(slices * 8 * COILS * LINES**2)
    return path.with_suffix(".cfl")


def npy_kspace(path: Path, gigabytes: int) -> Path:
    slices = _slices(gigabytes)
    with path.open("wb") as file:
        header = {"descr": "<c8", "fortran_order": False, "shape": (slices, COILS, LINES, LINES)}
        np.lib.format.write_array_header_1_0(file, header)
        begin, size = file.tell(), 8 * COILS * LINES**2
        file.seek(begin + 100 * size)
        file.write(_kspace().tobytes())
        file.truncate(begin + slices * size)
    return path


def hdf5_kspace(path: Path, gigabytes: int) -> Path:
    with h5py.File(path, "w") as file:
        _dataset(file, "kspace", (_slices(gigabytes), COILS, LINES, LINES), np.complex64)[100:106] = _kspace()
    return path


def fastmri(path: Path, gigabytes: int) -> Path:
    from tests.io.test_fastmri import HEADER

    hdf5_kspace(path, gigabytes)
    with h5py.File(path, "a") as file:
        file["ismrmrd_header"] = HEADER
    return path


def ismrmrd(path: Path, gigabytes: int) -> Path:
    """Readouts lie one by one in the file, which has no holes."""
    return _readouts(path, "slice", nz=1, fz=4)


def ismrmrd_3d(path: Path, gigabytes: int) -> Path:
    """One slab whose partitions are encoded."""
    return _readouts(path, "kspace_encode_step_2", nz=_slices(1), fz=4 * _slices(1))


def _readouts(path: Path, counter: str, **sizes: int) -> Path:
    """Write the lines of one slice with the library, and then with another count for every slice."""
    from tests.io.ismrmrd_files import Writer

    with Writer(path, nx=LINES, ny=LINES, **sizes) as writer:
        writer.add_slice(_kspace()[0])
    with h5py.File(path, "a") as file:
        data = file["dataset/data"]
        lines = data[:]
        data.resize(LINES * _slices(1), axis=0)
        for number in range(_slices(1)):
            lines["head"]["idx"][counter] = number
            lines["head"]["position"][:, 2] = 4.0 * number if counter == "slice" else 0
            data[LINES * number : LINES * (number + 1)] = lines
    return path


def twix(path: Path, gigabytes: int) -> Path:
    """The example of twixtools with more slices, and receivers of noise."""
    import twixtools

    example = twixtools.read_twix("tests/io/data/gre.dat", verbose=False, keep_acqend=True)[-1]
    lines = [block for block in example["mdb"] if not block.is_flag_set("ACQEND")]
    samples = _kspace()[0, :, 0, :320].repeat(2, axis=0)
    blocks = []
    for number in range(10**9 // (samples.nbytes * len(lines))):
        for line in lines:
            block = line.convert_to_local()
            block.data = samples
            block.mdh.Counter.Sli = number
            blocks.append(block)
    twixtools.write_twix({**example, "mdb": blocks}, str(path))
    return path


MR = {"axes": "zcyx"}
CASES = {
    "npy": Case(npy, {**CT, "axes": "azd"}),
    "npy in Fortran's order": Case(npy_fortran, {**CT, "axes": "daz"}),
    "npz": Case(npz, {**CT, "axes": "azd"}),
    "HDF5": Case(hdf5, {**CT, "axes": "azd"}),
    "HDF5, chunks": Case(hdf5_chunked, {**CT, "axes": "azd"}),
    "HDF5, gzip": Case(hdf5_gzip, {**CT, "axes": "azd"}),
    "HDF5, gzip, a chunk a view": Case(hdf5_gzip_views, {**CT, "axes": "azd"}),
    "HDF5, gzip, one chunk of 4 GB": Case(hdf5_one_chunk, {**CT, "axes": "azd"}),
    "Data Exchange": Case(data_exchange, {}),
    "NXtomo": Case(nxtomo, {}),
    "HyperSpy": Case(hyperspy, {**CT, "axes": "azd"}),
    "MATLAB 7.3": Case(matlab, {**CT, "axes": "dza"}),
    "MATLAB 5 to 7, 2 GB": Case(matlab_7, {**CT, "axes": "azd"}),
    "TIFF": Case(tiff, {**CT, "axes": "azd"}),
    "TIFF, a page a view, 2 GB": Case(tiff_pages, {**CT, "axes": "azd"}),
    "TIFF, deflate, 2 GB": Case(tiff_deflate, {**CT, "axes": "azd"}),
    "folder of TIFFs": Case(tiff_folder, {**CT, "axes": "azd"}),
    "npy, k-space": Case(npy_kspace, MR, "100:102"),
    "HDF5, k-space": Case(hdf5_kspace, MR, "100:102"),
    "fastMRI": Case(fastmri, {}, "100:102"),
    "BART": Case(bart, {}, "100:102"),
    "ISMRMRD, 1 GB": Case(ismrmrd, {}, "10:12"),
    "ISMRMRD, 3D, 1 GB": Case(ismrmrd_3d, {}, "10:12"),
    "twix, 1 GB": Case(twix, {}, "10:12"),
}
WHOLE = ("ISMRMRD, 1 GB", "ISMRMRD, 3D, 1 GB", "twix, 1 GB")  # Read whole, too, without a limit.
WAYS = ("info", "slices", "slices, 1 GB of memory", "whole, 1 GB of memory", "whole")
SUFFIXES = {
    **{"npy": ".npy", "npz": ".npz", "HDF5": ".h5", "Data Exchange": ".h5", "NXtomo": ".nx", "HyperSpy": ".hspy"},
    **{
        "MATLAB": ".mat",
        "TIFF": ".tif",
        "folder": "",
        "fastMRI": ".h5",
        "BART": ".cfl",
        "ISMRMRD": ".h5",
        "twix": ".dat",
    },
}


def _measured(path: Path, options: dict[str, Any], limit: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-c", READ, str(path), json.dumps(options), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return {"shape": None, "says": f"exit code {run.returncode}: {run.stderr[-300:]}", "seconds": 0.0, "cpu": 0.0,
                "memory": 0, "read": 0}  # fmt: skip
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def measure(name: str, folder: Path, gigabytes: int, wanted: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Write a file, read it in the wanted ways, and remove it."""
    case = CASES[name]
    suffix = next(ending for begin, ending in SUFFIXES.items() if name.startswith(begin))
    path = case.write(folder / f"scan{suffix}", gigabytes)
    try:
        files = list(path.rglob("*")) if path.is_dir() else [path]
        size = sum(item.stat().st_size for item in files)
        taken = sum(512 * item.stat().st_blocks for item in files)
        print(f"{name}: {size / 1e9:.2f} GB, {taken / 1e9:.2f} on disk", flush=True)
        slices = {**case.options, "slices": case.slices}
        runs = {
            "info": ({**case.options, "info": True}, 0),
            "slices": (slices, 0),
            "slices, 1 GB of memory": (slices, 10**9),
            "whole, 1 GB of memory": (case.options, 10**9),
            "whole": (case.options, 0),
        }
        found = [
            (what, _measured(path, *given))
            for what, given in runs.items()
            if what in wanted and (what != "whole" or name in WHOLE)
        ]
        return [(what, {"size": size, **answer}) for what, answer in found]
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.with_suffix(".hdr").unlink(missing_ok=True)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files are written, one at a time")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--measure", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--gigabytes", type=int, default=7)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    rows = []
    for name in given.only:
        for what, answer in measure(name, given.folder, given.gigabytes, given.measure):
            print(f"  {what}: {answer}", flush=True)
            for quantity in ("size", "memory", "read", "cpu", "seconds"):
                rows.append(("large files", name, what, quantity, f"{answer[quantity]:.4g}", answer["says"]))
    if given.csv:
        with given.csv.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerows([("part", "scan", "setting", "quantity", "value", "note"), *rows])


if __name__ == "__main__":
    main()
