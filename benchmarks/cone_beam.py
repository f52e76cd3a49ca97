"""Methods on exact cone-beam scans of ellipsoids with noise, and the projector beside mbirtorch's.

    python -m benchmarks.cone_beam [--size 128] [--views 50] [--span 360] [--methods fbp tv dds d3ip]

A method's line has the PSNR and the seconds of its run. If mbirtorch is installed, both projectors are timed in turns
at first, its own compiled (which takes a minute once, not counted) and not, and printed as ratios of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from tests.cones import Ellipsoid, integrals_of, volume_of

import napari_d3ip as d3
from napari_d3ip.measurement import Sinogram
from napari_d3ip.metrics import psnr
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.cone_beam import Cone, JosephCone

REPEATS = 5


def body(size: int) -> list[Ellipsoid]:
    """Return a body of about a third of the volume with a dozen inclusions."""
    generator = np.random.default_rng(0)
    inclusions = [
        (generator.uniform(-0.22, 0.22, 3), generator.uniform(0.03, 0.12, 3), generator.choice([-0.6, -0.3, 0.4, 0.8]))
        for _ in range(12)
    ]
    parts = [(np.zeros(3), np.array([0.42, 0.36, 0.44]), 1.0), *inclusions]
    return [Ellipsoid(tuple(centre * size), tuple(axes * size), value) for centre, axes, value in parts]


def cone_of(size: int, views: int, span: float) -> Cone:
    """Return a cone that opens to 13° on either side."""
    to_source, to_detector = 2.5 * size, 1.5 * size
    angles = np.arange(views) * span / views
    pitch, width = (to_source + to_detector) / to_source, round(1.3 * size)
    fan = Beam(angles, width, (width - 1) / 2, pitch, to_source, to_detector)
    return Cone(fan, width, (width - 1) / 2)


def scan_of(ellipsoids: list[Ellipsoid], cone: Cone, size: int, noise: float) -> Sinogram:
    """Return the scan with noise in units of the mean line integral."""
    data = integrals_of(ellipsoids, cone, finer=2)
    data += np.random.default_rng(1).normal(0, noise * data.mean(), data.shape).astype(np.float32)
    return Sinogram(
        data,
        cone.fan.angles,
        geometry="cone",
        detector_pitch=cone.fan.pitch,
        source_distance=cone.fan.source_distance,
        detector_distance=cone.fan.detector_distance,
        slice_shape=(size, size),
        depth=size,
    )


def mbirtorch_of(cone: Cone, size: int, compile_mode: str) -> Any:
    """Return mbirtorch's projector of a cone whose axis is in the middle of the detector."""
    import mbirtorch

    shape = (len(cone.fan.angles), cone.rows, cone.fan.detectors)
    model = mbirtorch.ConeBeamModel(shape, np.deg2rad(cone.fan.angles), *cone.distances, compile_mode=compile_mode)
    pitch = cone.fan.pitch
    model.set_params(no_warning=True, verbose=0, recon_shape=(size,) * 3, delta_voxel=1.0, use_ror_mask=False)
    model.set_params(no_warning=True, delta_det_row=pitch, delta_det_channel=pitch)
    return mbirtorch.TorchProjector(model)


def compare_projectors(cone: Cone, size: int) -> None:
    """Print the seconds of projection and back-projection, and their ratios."""
    own = JosephCone(cone, (size,) * 3)
    x = torch.rand(size, size, size)
    y = own.forward(x)
    sides: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "own": (lambda: own.forward(x), lambda: own.adjoint(y))
    }
    for mode in ("auto", "off"):
        other, turned, views = mbirtorch_of(cone, size, mode), x.permute(1, 2, 0).contiguous(), y.transpose(0, 1)
        sides[f"mbirtorch, compile_mode={mode}"] = (
            lambda other=other, turned=turned: other(turned),
            lambda other=other, views=views: other.adjoint(views),
        )
    seconds: dict[str, list[list[float]]] = {name: [[], []] for name in sides}
    for repeat in range(REPEATS + 1):
        for name, steps in sides.items():
            for taken, step in zip(seconds[name], steps, strict=True):
                begin = time.perf_counter()
                step()
                if repeat:  # The first compiles.
                    taken.append(time.perf_counter() - begin)
    medians = {name: [statistics.median(each) for each in both] for name, both in seconds.items()}
    for name, (forward, back) in medians.items():
        ratios = f"{forward / medians['own'][0]:.1f} and {back / medians['own'][1]:.1f} times own"
        print(f"{name}: projection {forward:.3f} s, back-projection {back:.3f} s; {ratios}", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--span", type=float, default=360.0)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--methods", nargs="*", default=["fbp", "tv", "dds", "d3ip"])
    given = parser.parse_args()
    cone, ellipsoids = cone_of(given.size, given.views, given.span), body(given.size)
    if find_spec("mbirtorch") is not None:
        compare_projectors(cone, given.size)
    scan, truth = scan_of(ellipsoids, cone, given.size, given.noise), volume_of(ellipsoids, (given.size,) * 3, 2)
    for method in given.methods:
        begin = time.perf_counter()
        result = d3.reconstruct(scan, method=method)
        seconds, quality = time.perf_counter() - begin, psnr(result.volume, truth)
        print(f"{method}: {quality:.2f} dB, {seconds:.0f} s; {result.metrics['verdict']}", flush=True)


if __name__ == "__main__":
    main()
