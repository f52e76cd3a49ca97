"""Phantoms of your own: disks with holes, such as fan-beam scanners see of machined parts.

``napari-d3ip priors train disks --phantoms disks_with_holes.py:draw --size 144 --batch 4`` trains a prior on them;
``python disks_with_holes.py`` draws some, to look at before.
"""

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

SIDE = 144
FINE = 2  # Points along the side of a pixel, so that edges have grey pixels, as in scans.


def draw(rng):
    """Draw a slice: a disk of one or several densities, from 0 (air) to 1, with drill holes, slots or cells."""
    axis = (np.arange(SIDE * FINE) + 0.5) / (SIDE * FINE) * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius = rng.uniform(0.75, 0.97)
    shift = rng.uniform(-1, 1, 2) * (0.98 - radius)
    y, x = (y - shift[0]) / radius, (x - shift[1]) / radius  # From now on the disk has radius 1.
    distance = np.hypot(y, x)

    density = np.where(distance < 1, rng.uniform(0.85, 1), 0)
    if rng.random() < 0.15:  # A rim or a core of another density.
        density[(distance < rng.uniform(0.3, 0.9)) & (distance < 1)] *= rng.uniform(0.5, 0.95)
    holes = cells(rng, y, x) if rng.random() < 0.4 else drilled(rng, y, x)
    density[holes & (distance < 1)] = 0.0 if rng.random() < 0.85 else rng.uniform(0.1, 0.6)  # Empty, or filled.
    if rng.random() < 0.5:  # Beam hardening makes the middle of dense disks darker.
        density *= 1 - rng.uniform(0, 0.12) * (1 - np.minimum(distance, 1) ** 2)
    return density.reshape(SIDE, FINE, SIDE, FINE).mean(axis=(1, 3))


def drilled(rng, y, x):
    """Return where holes are that keep apart: all round, all slots of one shape, or each of a shape of its own."""
    holes = np.zeros(x.shape, bool)
    wall = rng.uniform(0.02, 0.1)
    size = rng.uniform(0.06, 0.3)
    kind = rng.choice(["round", "slots", "free"])
    slot = rng.uniform(1, 2), rng.uniform(0, np.pi), rng.uniform(2, 4)
    placed = []
    for _ in range(rng.integers(5, 60)):
        place = rng.uniform(-1, 1, 2)
        reach = size * rng.uniform(0.6, 1.4)
        if np.hypot(*place) + reach + wall > 1 or any(
            np.hypot(*(place - other)) < reach + far + wall for other, far in placed
        ):
            continue
        placed.append((place, reach))
        if kind == "free":
            slot = rng.uniform(1, 2), rng.uniform(0, np.pi), rng.uniform(2, 4)
        elongation, turned, power = (1, 0, 2) if kind == "round" else slot
        dy, dx = y - place[0], x - place[1]
        along, across = dx * np.cos(turned) + dy * np.sin(turned), dy * np.cos(turned) - dx * np.sin(turned)
        half = reach if power == 2 else reach / 2 ** (0.5 - 1 / power)  # Corners reach further.
        holes |= np.abs(along / half) ** power + np.abs(across * elongation / half) ** power < 1
    return holes


def cells(rng, y, x):
    """Return where the insides of a random honeycomb are, with rounded corners; some are closed."""
    seeds = rng.uniform(-0.9, 0.9, (rng.integers(4, 24), 2))
    wall, rim = rng.uniform(0.02, 0.12), rng.uniform(0.02, 0.25)
    squares = [(y - seed[0]) ** 2 + (x - seed[1]) ** 2 for seed in seeds]
    holes = np.zeros(x.shape, bool)
    for one in range(len(seeds)):
        if rng.random() < 0.2:
            continue
        inside = np.hypot(y, x) < 1 - rim
        for other in range(len(seeds)):
            if other != one:  # The distance to the line midway between both.
                apart = np.hypot(*(seeds[other] - seeds[one]))
                inside &= squares[other] - squares[one] > wall * apart
        holes |= inside
    return gaussian_filter(holes.astype(np.float32), rng.uniform(1, 4) * FINE) > 0.5


if __name__ == "__main__":
    figure = Figure(figsize=(8, 8), layout="constrained")
    for seed, axes in enumerate(figure.subplots(4, 4).flat):
        axes.imshow(draw(np.random.default_rng(seed)), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
    figure.savefig("disks.png")
