"""Check scans that were spoilt on purpose, and good ones: ``python scripts/make_check.py SCAN... -o FILE.csv``.

SCAN... are files of line integrals (z, angle, detector) over half a turn of parallel beams; one simulated by ASTRA is
added. Each is written as another program might write it, wrongly described, read, and checked. A row of the CSV has
the read option that is to blame and the one that was suggested first.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from make_rotation_axis import Case, simulate

import napari_d3ip as d3
from napari_d3ip.checking import check

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Described:
    """An array as it lies in a file, with what is said of it, and the options of which one puts that right."""

    data: Array
    options: dict[str, Any]
    expected: tuple[str, ...] = ()
    right: Callable[[dict[str, str]], bool] = field(default=lambda options: True)


Fault = Callable[[Described], Described]
Faults = dict[str, Fault]


def _plain(scan: d3.Sinogram) -> Described:
    return Described(
        scan.data, {"axes": "zad", "values": "line_integrals", "angles": scan.angles, "center": float(scan.axis)}
    )


def _with(given: Described, *expected: str, data: Array | None = None, **options: Any) -> Described:
    data = given.data if data is None else data
    return replace(given, data=data, options={**given.options, **options}, expected=expected)


def _axis(shift: float) -> Fault:
    def moved(given: Described) -> Described:
        center = given.options["center"]
        near = lambda options: abs(float(options["center"]) - center) < 0.5  # noqa: E731
        return replace(_with(given, "center", center=center + shift), right=near)

    return moved


def _angles(change: Callable[[Array], Array], *expected: str, **options: Any) -> Fault:
    return lambda given: _with(given, *expected, angles=change(given.options["angles"]), **options)


def _order(order: Callable[[int], Array]) -> Fault:
    def shuffled(given: Described) -> Described:
        return _with(given, "angles", data=given.data[:, order(given.data.shape[1])])

    return shuffled


def _as_text(count: int) -> Array:
    return np.array(sorted(range(count), key=str))


def _interlaced(count: int) -> Array:
    return np.concatenate([np.arange(start, count, 4) for start in range(4)])


def _transmission(given: Described) -> Described:
    scaled = given.data * min(1.0, 3 / given.data.max())
    return _with(given, "values", data=np.exp(-scaled))


def _counts(given: Described) -> Described:
    scaled = given.data * min(1.0, 3 / given.data.max())
    return _with(given, "values", data=np.round(30000 * np.exp(-scaled)).astype(np.uint16))


def _integrals(given: Described) -> Described:
    scaled = given.data * min(1.0, 3 / given.data.max())
    return _with(given, "values", data=np.maximum(scaled, 1e-3), values="transmission")


def _columns(change: Callable[[Array, Array], Array], *expected: str) -> Fault:
    """Change some columns of the detector."""

    def spoilt(given: Described) -> Described:
        data, detectors = given.data.copy(), given.data.shape[2]
        columns = np.array([detectors // 3, detectors // 2 + 5])
        data[..., columns] = change(data, columns)
        return _with(given, *expected, data=data)

    return spoilt


def _views(change: Callable[[Array], Array], *expected: str) -> Fault:
    """Change two views amid the scan."""

    def spoilt(given: Described) -> Described:
        data, count = given.data.copy(), given.data.shape[1]
        views = [count // 3, count // 2 + 2]
        data[:, views] = change(data[:, views])
        return _with(given, *expected, data=data)

    return spoilt


def _rings(given: Described) -> Described:
    gains = np.random.default_rng(0).normal(
        0, 0.05 * np.abs(given.data).max(), (len(given.data), 1, given.data.shape[2])
    )
    return _with(given, "corrections", data=(given.data + gains).astype(np.float32))


def _drift(given: Described) -> Described:
    levels = np.random.default_rng(0).normal(0, 0.05 * np.abs(given.data).max(), (1, given.data.shape[1], 1))
    return _with(given, "corrections", "air", data=(given.data + levels).astype(np.float32))


def _cut(given: Described) -> Described:
    margin = given.data.shape[2] // 4
    return _with(given, "slice_shape", data=given.data[..., margin:-margin], center=given.options["center"] - margin)


def _half_acquisition(given: Described) -> Described:
    """A whole turn, the axis near the end of the detector; it is said to be in the middle."""
    center, angles = given.options["center"], np.asarray(given.options["angles"])
    offset = given.data.shape[2] - 1 - round(2 * center)
    mirrored = np.roll(given.data[..., ::-1], -offset, axis=-1)
    whole = np.concatenate((given.data, mirrored), axis=1)
    first = round(center) - 5
    return _with(
        given,
        "center",
        data=whole[..., first:],
        angles=np.concatenate((angles, angles + 180)),
        center=(whole.shape[2] - first - 1) / 2,
    )


FAULTS: Faults = {
    "none": lambda given: given,
    "axis off by 2.5 pixels": _axis(2.5),
    "axis off by 0.8 pixels": _axis(-0.8),
    "radians taken for degrees": _angles(np.deg2rad, "angle_unit", angle_unit="degree"),
    "angles over half the range": _angles(lambda angles: angles / 2, "angles"),
    "angles over twice the range": _angles(lambda angles: angles * 2, "angles"),
    "views in order of their numbers as text": _order(_as_text),
    "views interlaced": _order(_interlaced),
    "first view last": _order(lambda count: np.roll(np.arange(count), -1)),
    "transmission taken for line integrals": _transmission,
    "counts taken for line integrals": _counts,
    "line integrals taken for transmission": _integrals,
    "axes exchanged": lambda given: _with(given, "axes", axes="daz", center=(len(given.data) - 1) / 2),
    "dead columns": _columns(lambda data, columns: np.zeros_like(data[..., columns]), "bad_pixels", "corrections"),
    "hot columns": _columns(lambda data, columns: data[..., columns] + 0.3 * data.max(), "bad_pixels", "corrections"),
    "blank views": _views(np.zeros_like, "skip_views"),
    "shifted views": _views(lambda views: np.roll(views, 4, axis=-1), "skip_views"),
    "rings": _rings,
    "drifting beam": _drift,
    "truncated": _cut,
    "half acquisition": _half_acquisition,
}


def _row(name: str, fault: str, given: Described, folder: Path) -> dict[str, Any]:
    path = folder / "scan.npy"
    np.save(path, given.data)
    scan = d3.read(path, **given.options)
    begun = time.perf_counter()
    report = check(scan)
    first = report.suggestions[0] if report.suggestions else None
    options = dict(each.split("=", 1) for each in first.set) if first else {}
    named = not options if not given.expected else bool(set(options) & set(given.expected)) and given.right(options)
    return {
        "scan": name,
        "fault": fault,
        "expected": "|".join(given.expected),
        "suggested": " ".join(f"{key}={value}"[:40] for key, value in options.items()),
        "right": named,
        "others": len(report.suggestions[1:]),
        "residual": round(report.held_out_residual, 4),
        "better": round(first.held_out_residual, 4) if first else "",
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _scans(paths: list[Path]) -> dict[str, d3.Sinogram]:
    simulated, center = simulate(Case(90, 180.0, 0.01, 0.8, "astra", 3))
    return {**{path.stem: d3.read(path) for path in paths}, "phantoms by ASTRA": replace(simulated, center=center)}


def main() -> None:
    """Check each scan with each fault, and print how many causes were found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="*", type=Path)
    parser.add_argument("-o", dest="out", required=True, type=Path)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS))
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, given.out.open("w", newline="") as file:
        for fault in given.faults:
            for name, scan in _scans(given.scans).items():
                if fault == "axes exchanged" and len(scan.data) < 8:
                    continue
                rows.append(_row(name, fault, FAULTS[fault](_plain(scan)), Path(folder)))
                writer = csv.DictWriter(file, rows[-1])
                if len(rows) == 1:
                    writer.writeheader()
                writer.writerow(rows[-1])
                file.flush()
                print(*rows[-1].values(), sep=" | ", file=sys.stderr)
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} right")


if __name__ == "__main__":
    main()
