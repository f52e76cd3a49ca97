"""Training on images and phantoms of the user's own: what is read, held out, drawn, refused, and written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_d3ip.errors import D3IPError, PriorError
from napari_d3ip.io import save_volume
from napari_d3ip.prior import training_images
from napari_d3ip.prior.description import describe_prior
from napari_d3ip.prior.generators import GeneratedPhantoms, load_function, phantom_data, phantoms_of
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import robust_maximum
from napari_d3ip.prior.phantoms import ComplexPhantoms
from napari_d3ip.prior.train import train
from napari_d3ip.prior.training_data import ImageCrops, Replayed, TrainingData
from napari_d3ip.prior.training_images import image_data
from napari_d3ip.prior.training_settings import Intervals, TrainingSettings

SIZE = 32
SMALL = TrainingSettings(steps=6, batch=4, size=SIZE, width=8, warmup=2, ema=0.9, learning_rate=2e-3, phantoms=None)
EVERY = Intervals(2, 2, 8)


def discs(seed: int, slices: int = 6, side: int = 40) -> np.ndarray:
    """Slices of a disc each, radius and value random; noise of either sign around them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - side / 2
    radius, value = random.uniform(6, 14, (2, slices, 1, 1))
    return (np.where(np.hypot(y, x) < radius, value, 0) + 0.01 * random.standard_normal((slices, side, side))).astype(
        np.float32
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six volumes in as many formats and units."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate(("a.npy", "b.tif", "c.nii.gz", "d.zarr", "e.h5", "f.npy")):
        save_volume(folder / name, 10.0**seed * discs(seed))
    return folder


def draw(data: TrainingData, count: int = 16) -> torch.Tensor:
    return data.training.draw(count, torch.Generator().manual_seed(0))


def volumes(data: TrainingData, part: str) -> dict[str, torch.Tensor]:
    """Volumes in memory by name."""
    crops = getattr(data, part)
    assert isinstance(crops, ImageCrops)
    return dict(zip([each["name"] for each in data.record[part]], crops.volumes, strict=True))


class TestImages:
    def test_whole_volumes_are_held_out(self, folder: Path) -> None:
        data = image_data([folder], SIZE)
        training, held_out = volumes(data, "training"), volumes(data, "held_out")
        assert data.record["split"] == "by volume"
        assert len(held_out) == 1
        assert {*training, *held_out} == {path.name for path in folder.iterdir() if path.suffix != ".json"}
        assert not {*training} & {*held_out}
        for seed, name in enumerate(sorted({*training, *held_out})):
            found, values = (training | held_out)[name], torch.from_numpy(discs(seed)).clamp(min=0)
            expected = (values / robust_maximum(values)).clamp(max=1)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    def test_the_split_is_that_of_the_content(self, folder: Path) -> None:
        before = image_data([folder], SIZE).record
        (folder / "b.tif").rename(folder / "z.tif")
        after = image_data(
            sorted((path for path in folder.iterdir() if path.suffix != ".json"), reverse=True), SIZE
        ).record

        def digests(record: dict[str, Any], part: str) -> set[str]:
            return {each["sha256"] for each in record[part]}

        for part in ("training", "held_out"):
            assert digests(before, part) == digests(after, part)

    def test_copies_are_left_out(self, folder: Path) -> None:
        np.save(folder / "copy.npy", discs(0))
        data = image_data([folder], SIZE)
        assert len(data.record["training"]) + len(data.record["held_out"]) == 6
        assert data.notes == ("copy.npy: left out, since another volume has the same values.",)

    def test_a_single_volume_is_split_by_slab(self, tmp_path: Path) -> None:
        values = discs(0, slices=40)
        np.save(tmp_path / "one.npy", values)
        data = image_data([tmp_path / "one.npy"], SIZE)
        assert data.record["split"] == "by slab"
        (note,) = data.notes
        assert note.startswith("there is only one volume, so 8 slices in its middle are held out; ")
        scaled = torch.from_numpy(values).clamp(min=0)
        scaled = (scaled / robust_maximum(scaled)).clamp(max=1)
        (training,), (held_out,) = volumes(data, "training").values(), volumes(data, "held_out").values()
        torch.testing.assert_close(held_out, scaled[16:24])
        torch.testing.assert_close(training, torch.cat((scaled[:14], scaled[26:])))
        assert [data.record[part][0]["slices"] for part in ("training", "held_out")] == [28, 8]

    def test_empty_slices_are_left_out(self, tmp_path: Path) -> None:
        values = np.concatenate([np.zeros((5, 40, 40), np.float32), discs(0, slices=10)])
        np.save(tmp_path / "one.npy", values)
        record = image_data([tmp_path], SIZE).record
        assert record["training"][0]["shape"] == [15, 40, 40]
        # Of the ten others, one on each side of what is held out is neither.
        assert [record[part][0]["slices"] for part in ("training", "held_out")] == [6, 2]

    def test_of_large_volumes_some_slices_are_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training_images, "MOST_VOXELS", 6 * 3 * 40 * 40)
        data = image_data([folder], SIZE)
        assert {each["every"] for each in data.record["training"]} == {2}
        assert {each["slices"] for each in data.record["training"]} == {3}
        assert data.notes[0].startswith("only some slices fit into memory: ")
        assert "a.npy (every 2.)" in data.notes[0]

    def test_value_of_nothing(self, tmp_path: Path) -> None:
        """Padding below it becomes nothing."""
        values = np.full((6, 40, 40), -3024, np.float32)
        values[:, 5:35, 5:35] = -1000
        values[:, 10:30, 10:30] = 1000
        np.save(tmp_path / "ct.npy", values)
        with pytest.raises(PriorError, match=r"^images: ct\.npy has values from -3024 to 1000, but images of a prior"):
            image_data([tmp_path], SIZE)
        data = image_data([tmp_path], SIZE, zero=-1000)
        (found,) = volumes(data, "training").values()
        expected = torch.zeros((3, 40, 40))
        expected[:, 10:30, 10:30] = 1
        torch.testing.assert_close(found, expected)
        assert data.record["training"][0]["zero"] == -1000

    def test_hounsfield_units_of_dicom_need_no_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from napari_d3ip.io.volumes import Volume, base
        from napari_d3ip.io.volumes.dicom import HOUNSFIELD

        class Scan:
            name = "scan"

            def read(self, wanted: base.Wanted) -> Volume:
                return Volume(200 * discs(0)[wanted.slices(6)] - 1000, metadata=HOUNSFIELD)

        monkeypatch.setattr(training_images, "find_volumes", lambda _: [Scan()])
        data = image_data(["scan"], SIZE)
        assert data.record["training"][0]["zero"] == -1000

    def test_magnitudes_of_complex_images(self, folder: Path) -> None:
        data = image_data([folder], SIZE, channels=2)
        assert isinstance(data.training, ComplexPhantoms)
        parts = draw(data)
        assert parts.shape == (16, 2, SIZE, SIZE)
        assert float(parts.min()) < -0.1

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (
                np.ones((6, 20, 40)),
                "a.npy has slices of 20 × 40 pixels, smaller than the 32 × 32 of training images; ",
            ),
            (np.ones((6, 40, 3)), "a.npy has slices of 40 × 3 pixels, smaller than the 32 × 32 of training images; "),
            (np.full((6, 40, 40), 7), "a.npy is 7 everywhere; leave it out."),
            (np.where(discs(0) > 10, np.nan, 1), "values that are not finite; correct them, or leave it out."),
            (discs(0) - 20, "0 where nothing is and positive elsewhere; give the value of nothing as zero (-1000 in "),
            (discs(0) * 1j, "a.npy is complex; give its magnitude."),
            (discs(0, slices=4), "there is only a.npy, with 4 slices that are not empty, too few to hold some out; "),
            (discs(0)[0], "there is only a.npy, with 1 slices that are not empty, too few to hold some out; "),
            (np.ones((2, 6, 40, 40)), "a.npy has shape (2, 6, 40, 40) of float64, but a volume is a real array with "),
        ],
    )
    def test_what_cannot_be_trained_on(self, tmp_path: Path, values: np.ndarray, expected: str) -> None:
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(D3IPError) as told:
            image_data([tmp_path], SIZE)
        assert expected in str(told.value)
        assert str(told.value).endswith(".")

    def test_a_zero_above_all_values(self, folder: Path) -> None:
        with pytest.raises(PriorError, match=r"^images: .* has no value above zero=1e\+09; give the value that air"):
            image_data([folder], SIZE, zero=1e9)

    def test_colours(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "photo.tif", np.zeros((40, 40, 3), np.uint8), photometric="rgb")
        with pytest.raises(D3IPError, match=r"^photo\.tif is a colour image; give grey values\.$"):
            image_data([tmp_path], SIZE)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(D3IPError, match="holds no volume and no image"):
            image_data([tmp_path], SIZE)


class TestCrops:
    def test_shape_range_and_seed(self) -> None:
        crops = ImageCrops([torch.rand(3, 40, 70), torch.rand(2, 32, 32)], SIZE)
        images = crops.draw(64, torch.Generator().manual_seed(1))
        assert images.shape == (64, 1, SIZE, SIZE)
        assert images.dtype == torch.float32
        assert 0 <= float(images.min()) < float(images.max()) <= 1
        torch.rand(3)  # The global generator plays no part.
        torch.testing.assert_close(crops.draw(64, torch.Generator().manual_seed(1)), images, rtol=0, atol=0)
        assert not torch.equal(crops.draw(64, torch.Generator().manual_seed(2)), images)

    def test_are_of_all_slices_turned_and_mirrored(self) -> None:
        """A slice of the size of a crop is seen in its eight positions."""
        image = torch.zeros(2, SIZE, SIZE)
        image[0, 1:9, 1:3], image[1, 20:22, 20:22] = 0.5, 0.25
        crops = ImageCrops([image], SIZE).draw(200, torch.Generator().manual_seed(0))[:, 0]
        of_first = [crop for crop in crops if int((crop > 0).sum()) == 16]
        assert 60 < len(of_first) < 140
        positions = {tuple((crop > 0).nonzero()[0].tolist() + (crop > 0).nonzero()[-1].tolist()) for crop in of_first}
        expected = set()
        for turns in range(4):
            for mirrored in (image[0], image[0].flip(1)):
                places = (torch.rot90(mirrored, turns) > 0).nonzero()
                expected.add(tuple(places[0].tolist() + places[-1].tolist()))
        assert positions == expected
        peaks = torch.stack([crop.max() for crop in of_first])
        assert 0.35 <= float(peaks.min()) < 0.4
        assert 0.53 < float(peaks.max()) <= 0.575

    def test_of_larger_slices_some_have_lower_resolution(self) -> None:
        stripes = (torch.arange(4 * SIZE) // 8 % 2).float().expand(1, 4 * SIZE, -1)
        crops = ImageCrops([stripes], SIZE).draw(100, torch.Generator().manual_seed(0))[:, 0]
        edges = [
            max(int((crop.diff(dim=axis).abs() > 0.1).any(dim=1 - axis).sum()) for axis in (0, 1)) for crop in crops
        ]
        assert sum(count <= 4 for count in edges) > 35
        assert max(edges) > 12


class TestReplay:
    def test_a_fraction_of_the_images_is_known_ones(self) -> None:
        class Flat:
            def __init__(self, value: float) -> None:
                self.value = value

            def draw(self, count: int, *_: Any) -> torch.Tensor:
                return torch.full((count, 1, 4, 4), self.value)

        images = Replayed(Flat(0.2), Flat(0.9), 0.25).draw(16, torch.Generator().manual_seed(0))
        values = images[:, 0, 0, 0].tolist()
        assert sorted(values) == pytest.approx([0.2] * 12 + [0.9] * 4)
        assert values != sorted(values)
        assert float(Replayed(Flat(0.2), Flat(0.9), 0.01).draw(4, torch.Generator()).max()) == pytest.approx(0.2)


class TestGenerators:
    @staticmethod
    def bars(rng: np.random.Generator) -> np.ndarray:
        image = np.zeros((24, 20))
        image[: rng.integers(4, 24)] = rng.uniform(0.5, 1)
        return image

    def test_draw(self) -> None:
        phantoms = GeneratedPhantoms(self.bars, 16)
        images = phantoms.draw(5, torch.Generator().manual_seed(0))
        assert images.shape == (5, 1, 16, 16)
        assert images.dtype == torch.float32
        assert len({float(image.max()) for image in images}) > 1
        torch.testing.assert_close(phantoms.draw(5, torch.Generator().manual_seed(0)), images, rtol=0, atol=0)
        generator = torch.Generator().manual_seed(0)
        phantoms.draw(5, generator)
        assert not torch.equal(phantoms.draw(5, generator), images)

    def test_slices_may_be_kept_by_the_function(self) -> None:
        """What it returns is not changed."""
        own = np.full((16, 16), 0.5, np.float32)
        GeneratedPhantoms(lambda _: own, 16).draw(2, torch.Generator())
        assert (own == 0.5).all()

    @pytest.mark.parametrize(
        ("returned", "expected"),
        [
            (
                np.zeros((8, 30)),
                "phantoms: mine must return a slice of real numbers, of 16 × 16 pixels or more, got shape (8, 30) of",
            ),
            (np.full((16, 16), 1j), "of complex128; its signature is (rng) -> array of shape (rows, columns)."),
            (np.zeros((2, 16, 16)), "got shape (2, 16, 16) of"),
            (None, "got shape () of object"),
            (np.linspace(0, 255, 256).reshape(16, 16), "values from 0 (nothing) to 1, got 0 to 255; scale them."),
            (np.linspace(-1, 1, 256).reshape(16, 16), "got -1 to 1; scale them."),
            (np.full((16, 16), np.nan), "got nan to nan; scale them."),
        ],
    )
    def test_what_is_drawn_is_checked(self, returned: Any, expected: str) -> None:
        with pytest.raises(PriorError) as told:
            GeneratedPhantoms(lambda *_: returned, 16, "mine").draw(2, torch.Generator())
        assert expected in str(told.value)

    def test_its_own_errors_are_told(self) -> None:
        def fail(rng: np.random.Generator) -> None:
            raise ZeroDivisionError("of my own")

        with pytest.raises(
            PriorError, match=r"^phantoms: mine failed with ZeroDivisionError \(of my own\); correct the function\.$"
        ):
            GeneratedPhantoms(fail, 16, "mine").draw(2, torch.Generator())

    def test_nothing_drawn(self) -> None:
        with pytest.raises(PriorError, match=r"draws nothing but 0; draw something\.$"):
            phantom_data(lambda _: np.zeros((16, 16)), 1, 16)

    @pytest.fixture
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "my_triangles.py").write_text(
            "import numpy as np\n\n\ndef draw(rng):\n"
            "    return np.triu(np.ones((20, 20))) * rng.uniform(0.5, 1)\n\n\n"
            "def other():\n    return 1\n\n\nnumber = 5\n"
        )
        (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.mark.parametrize("where", ["my_triangles:draw", "my_triangles.py:draw"])
    def test_by_name(self, module: Path, where: str) -> None:
        phantoms = phantoms_of(where, 1, 16)
        assert phantoms.draw(3, torch.Generator().manual_seed(0)).shape == (3, 1, 16, 16)
        assert phantoms_of(where, 2, 16).draw(3, torch.Generator()).shape == (3, 2, 16, 16)
        record = phantom_data(where, 1, 16).record
        assert record["phantoms"] == where
        assert len(record["source_sha256"]) == 64

    def test_functions_themselves(self) -> None:
        record = phantom_data(self.bars, 1, 16).record
        assert record["phantoms"] == f"{__name__}:TestGenerators.bars"

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ("nowhere.at_all:draw", "phantoms: nowhere.at_all cannot be imported (ModuleNotFoundError: "),
            ("nowhere.py:draw", "phantoms: nowhere.py cannot be imported (FileNotFoundError: "),
            ("broken:draw", "phantoms: broken cannot be imported (ModuleNotFoundError: No module named 'nothing_of"),
            ("my_triangles:paint", "phantoms: my_triangles has no function 'paint'; give the name of one"),
            ("my_triangles:number", "phantoms: my_triangles has no function 'number'; give the name of one"),
            ("my_triangles:other", "phantoms: my_triangles:other must take one argument, the random numbers; "),
            (":draw", "cannot be imported"),
        ],
    )
    def test_no_such_function(self, module: Path, where: str, expected: str) -> None:
        with pytest.raises(PriorError) as told:
            load_function(where)
        assert expected in str(told.value)


class TestTraining:
    def test_resumed_on_images_is_bit_identical(self, folder: Path, tmp_path: Path) -> None:
        data = image_data([folder], SIZE)
        list(train(tmp_path / "whole", SMALL, data=data, every=EVERY))
        interrupted = train(tmp_path / "parts", SMALL, data=data, every=EVERY)
        next(interrupted)
        interrupted.close()
        list(train(tmp_path / "parts", SMALL, data=image_data([folder], SIZE), every=EVERY, resume=True))
        whole, parts = load_prior(tmp_path / "whole"), load_prior(tmp_path / "parts")
        for name, weight in whole.state_dict().items():
            torch.testing.assert_close(parts.state_dict()[name], weight, rtol=0, atol=0)

    def test_not_resumed_on_other_images(self, folder: Path, tmp_path: Path) -> None:
        interrupted = train(tmp_path / "parts", SMALL, data=image_data([folder], SIZE), every=EVERY)
        next(interrupted)
        interrupted.close()
        (folder / "a.npy").unlink()
        with pytest.raises(PriorError, match=r"^resume: the training images are not those of .*; give the same ones"):
            list(train(tmp_path / "parts", SMALL, data=image_data([folder], SIZE), every=EVERY, resume=True))

    def test_held_out_images_are_those_measured(self, folder: Path, tmp_path: Path) -> None:
        """Training images play no part in it."""
        data = image_data([folder], SIZE)
        losses = []
        for name, training in (("a", data.training), ("b", ImageCrops([torch.rand(3, 40, 40)], SIZE))):
            settings = replace(SMALL, steps=2, learning_rate=1e-12)
            progress = list(train(tmp_path / name, settings, data=replace(data, training=training), every=EVERY))
            losses.append(progress[-1].held_out_loss)
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)

    def test_description_names_the_images(self, folder: Path, tmp_path: Path) -> None:
        data = image_data([folder], SIZE)
        list(train(tmp_path / "prior", SMALL, data=data, every=EVERY))
        description = describe_prior(load_prior(tmp_path / "prior"))
        assert description["images"] == data.record
        assert description["origin"] == "trained on images of 32 × 32 (5 volumes, 30 slices) for 6 steps"
        assert str(folder) not in json.dumps(description["images"])

    def test_neither_images_nor_phantoms(self, tmp_path: Path) -> None:
        with pytest.raises(PriorError, match=r"^phantoms: missing; name a kind, or give images\.$"):
            list(train(tmp_path, SMALL))
