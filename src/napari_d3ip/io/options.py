"""Options for reading a file: what the caller adds to, or says instead of, the statements of the file.

Pydantic only: the import widget and the command line (``--set key=value``) are generated from this model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from napari_d3ip.errors import SettingsError
from napari_d3ip.io import angle_ranges, option_text
from napari_d3ip.measurement import Geometry, Origin

Values = Literal["counts", "transmission", "line_integrals"]
AngleUnit = Literal["degree", "radian"]
TrajectoryUnit = Literal["grid", "cycle", "radian"]
SINOGRAM_ONLY = (
    "angles",
    "angle_unit",
    "center",
    "geometry",
    "source_distance",
    "detector_distance",
    "center_row",
    "depth",
    "values",
    "flats",
    "darks",
    "air",
    "clip_transmission",
    "detector_pitch",
    "slice_shape",
    "skip_views",
    "bad_pixels",
    "corrections",
)
KSPACE_ONLY = (
    "repetition",
    "mask",
    "coil_maps",
    "trajectory",
    "trajectory_unit",
    "image_shape",
    "keep_oversampling",
    "noise_level",
    "noise",
    "calibration",
    "dc",
    "image_origin",
    "zeros_below",
)
CARTESIAN_ONLY = ("dc", "image_origin", "zeros_below")
STACK_ONLY = ("psf", "upsample", "boundary")
_RANGE = re.compile(r"\d*:\d*")
AngleEnds = Annotated[str, AfterValidator(angle_ranges.checked)]
AirText = Annotated[str, Field(pattern=r"^air:\d+:\d+,\d+:\d+$")]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ReadOptions(BaseModel):
    """Options for reading a scan; a field left at ``None`` is taken from the file.

    A value given here takes precedence over the file, and is recorded in the measurement's provenance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    angles: Path | tuple[float, ...] | AngleEnds | None = Field(
        None,
        description="Projection angles: a text, csv or npy file, the numbers themselves, first..last (as many as "
        "there are projections, both ends included), start:stop (the same without the stop) or start:stop:step.",
    )
    angle_unit: AngleUnit | None = Field(
        None, description="Unit of the angles; default: as the file states, else degree if the range is unambiguous."
    )
    axes: str | None = Field(
        None,
        description="Meaning of the file's axes in order. Sinograms: z (along the rotation axis), a (angle), d "
        "(detector); zad for a stack of sinograms, azd for a stack of projections, ad for one slice. K-space: what "
        "there is of z (slice), c (coil), r (repetition), and y and x (encoding; readout and sample along a "
        "trajectory), for instance zcyx.",
    )
    center: Coordinate | Literal["auto"] | None = Field(
        None,
        description="Rotation axis on the detector, in pixels counted from 0; auto finds it, from views half a turn "
        "apart or by how well views left out are predicted.",
    )
    geometry: Geometry | None = Field(
        None,
        description="Beam: parallel rays, or a fan on a flat detector, or a cone (detector rows are then read as z).",
    )
    source_distance: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Distance of a fan's or cone's source from the rotation axis, in image pixels.",
    )
    detector_distance: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Distance of a fan's or cone's detector from the rotation axis, in image pixels.",
    )
    center_row: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Row of a cone's detector at the height of the source, counted from 0; default: the middle.",
    )
    depth: int | None = Field(
        None, ge=1, description="Number of slices of a cone's volume; default: what the rows see at the axis."
    )
    dataset: str | None = Field(
        None,
        min_length=1,
        description="Path of the data in an HDF5 file, name of a variable (npz, mat), or what the names of a folder's "
        "images begin with; scan_*_# says that the number at # counts them.",
    )
    values: Values | None = Field(
        None, description="What the numbers are: detector counts, transmission, or line integrals (-log done)."
    )
    flats: Path | Number | AirText | None = Field(
        None,
        description="Flat fields (beam without sample): npy, TIFF or folder of TIFFs; one number for all; or "
        "air:y0:y1,x0:x1, rows and columns of the detector that always see the beam.",
    )
    darks: Path | None = Field(None, description="Dark fields (no beam): npy, TIFF or folder of TIFFs.")
    air: tuple[int, int] | None = Field(
        None,
        description="Columns of the detector beside the sample, start:stop counted from 0, in which every row of "
        "every projection shows the beam.",
    )
    clip_transmission: float | None = Field(
        None, gt=0, lt=1, description="Raise lower transmissions to this before -log; default: they are an error."
    )
    voxel_size: float | tuple[float, float, float] | None = Field(
        None, description="Voxel size in unit: one number, or z, y, x."
    )
    unit: str | None = Field(None, min_length=1, description="Unit of the voxel size, for instance micrometer.")
    detector_pitch: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Detector pixels in units of image pixels."
    )
    slice_shape: tuple[int, int] | None = Field(
        None,
        description="Height and width of a slice in pixels, where the object is wider than the detector or the "
        "rotation axis is beside its middle.",
    )
    skip_views: tuple[int, ...] | None = Field(
        None, description="Projections to leave out, counted from 0: 3,7,10:13 (without 13)."
    )
    bad_pixels: Path | tuple[int, ...] | Literal["auto"] | None = Field(
        None,
        description="Detector pixels to leave out: columns counted from 0, as 3,7,10:13; a mask (npy or npz, 1 for "
        "bad ones), shape (column,) or (row, column); auto: those unlike their neighbours in most projections.",
    )
    corrections: Annotated[str, BeforeValidator(option_text.corrections_in)] | None = Field(
        None,
        description="Corrections of line integrals in order, with parameters after colons: zingers,stripes or "
        "drift:air=0:12 for instance. There are zingers, blank, stripes, drift, harden, paganin, bin and crop.",
    )
    slices: str | None = Field(
        None, description="Slices to read, start:stop counted from 0; 10:20 or :5 for instance."
    )
    repetition: int | Literal["mean"] | None = Field(
        None, description="Repetition (frame, echo, ...) of k-space to read, counted from 0, or mean for all together."
    )
    mask: Path | None = Field(
        None,
        description="Measured samples of k-space: npy, npz or cfl, shape (kx,), (ky, kx) or (z, ky, kx), or "
        "(ky,) where zeros in the data show that; measured slices (z,) or voxels (z, y, x) of a stack.",
    )
    coil_maps: Path | Literal["estimate"] | None = Field(
        None,
        description="Coil sensitivities: npy or npz of shape (z, coil, y, x), or cfl in BART's order; estimate leaves "
        "out those of the file.",
    )
    trajectory: Path | None = Field(
        None,
        description="Sample positions of k-space (ky, kx): npy or npz of shape (readout, sample, 2), or cfl in BART's "
        "order.",
    )
    trajectory_unit: TrajectoryUnit | None = Field(
        None,
        description="Unit of the positions: grid (up to half the matrix), cycle or radian a pixel (up to 0.5 or pi); "
        "default: as their reach shows.",
    )
    image_shape: tuple[int, int] | None = Field(
        None, description="Height and width of a slice in pixels, where k-space has a trajectory."
    )
    dc: Literal["center", "corner"] | tuple[int, ...] | None = Field(
        None,
        description="Where the frequency is zero on a Cartesian grid: center (of n samples the one at n // 2), corner "
        "(as numpy.fft.fft2 leaves it), or its place (ky, kx) counted from 0.",
    )
    image_origin: Literal["center", "corner"] | None = Field(
        None,
        description="Pixel of the image from which its transform counts: center, or corner (fft2 without ifftshift "
        "before).",
    )
    zeros_below: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Samples of k-space up to this part of the largest count as not measured, 0 for none; for data "
        "that rounding or a filler left where zeros should be.",
    )
    keep_oversampling: bool = Field(False, description="Keep the margins that an oversampled readout of k-space adds.")
    noise_level: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Root mean square of the complex noise of a k-space sample, or deviation of a voxel's noise.",
    )
    noise: Path | None = Field(
        None,
        description="Noise scan of the coils, to whiten them: ISMRMRD or twix (FILE:NAME for one of several groups, "
        "or of measurements counted from 0), or npy or npz of shape (coil, sample).",
    )
    calibration: Path | None = Field(
        None,
        description="Fully sampled centre of k-space to make coil maps of: ISMRMRD, twix or BART (FILE:NAME for one "
        "of several groups, or of measurements counted from 0), or npy, npz or HDF5 of shape (z, coil, ky, kx) "
        "(FILE:NAME for one of several arrays).",
    )
    kind: Literal["deconvolution", "inpainting"] | None = Field(
        None,
        description="Take the file as a stack of images (z, y, x) with blur (and what else is given), or with missing "
        "voxels or slices, instead of a scan.",
    )
    psf: Path | tuple[float, ...] | None = Field(
        None,
        description="Blur of a stack: file of a point spread function on the grid of the volume, or the full widths "
        "at half maximum of a Gaussian in voxels (one number, or z, y, x).",
    )
    upsample: int = Field(1, ge=1, le=32, description="Slices of the volume for each slice of a stack.")
    boundary: Literal["reflect", "zero"] | None = Field(
        None,
        description="Values beyond the borders that the blur of a stack mixes in: the volume mirrored (default), "
        "or zero.",
    )

    @field_validator("angles", mode="before")
    @classmethod
    def _angles(cls, value: Any) -> Any:
        """Return numbers from arrays and from text such as ``0,30,60``; keep two ends; other text is a path."""
        if isinstance(value, np.ndarray):
            return tuple(value.ravel().tolist())
        if not isinstance(value, str) or angle_ranges.is_range(value):
            return value
        numbers = angle_ranges.expand_steps(value) or option_text.numbers_in(value)
        return Path(numbers) if isinstance(numbers, str) else numbers

    @field_validator("psf", mode="before")
    @classmethod
    def _widths(cls, value: Any) -> Any:
        """Return numbers from text such as ``4,2,2`` or ``2.5``; other text is a path."""
        numbers = option_text.numbers_in(f"{value},") if isinstance(value, str | int | float) else value
        return numbers if isinstance(numbers, tuple) else value

    @field_validator("flats", mode="before")
    @classmethod
    def _number_or_file(cls, value: Any) -> Any:
        """Return a number from text such as ``65535``; other text is a path."""
        numbers = option_text.numbers_in(f"{value},") if isinstance(value, str) else value
        return numbers[0] if isinstance(numbers, tuple) and len(numbers) == 1 else value

    @field_validator("air", mode="before")
    @classmethod
    def _columns(cls, value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(r"\d+:\d+", value):
            raise ValueError("give start:stop, counted from 0, for instance 0:8")
        return tuple(map(int, value.split(":"))) if isinstance(value, str) else value

    @field_validator("skip_views", "bad_pixels", mode="before")
    @classmethod
    def _places(cls, value: Any) -> Any:
        """Return numbers from text such as ``3,7,10:13``, and a single number; other text is a path."""
        if isinstance(value, int):
            value = str(value)
        if isinstance(value, str) and re.fullmatch(r"\s*\d+(:\d+)?(\s*,\s*\d+(:\d+)?)*\s*", value):
            return option_text.expand_ranges(value)
        return value

    @field_validator("skip_views", "bad_pixels")
    @classmethod
    def _from_zero(cls, value: Any) -> Any:
        if isinstance(value, tuple) and not (value and min(value) >= 0):
            raise ValueError("give numbers counted from 0, for instance 3,7,10:13")
        return value

    @field_validator("voxel_size", "image_shape", "slice_shape", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return option_text.numbers_in(value) if isinstance(value, str) else value

    @field_validator("dc", mode="before")
    @classmethod
    def _place(cls, value: Any) -> Any:
        numbers = option_text.numbers_in(value) if isinstance(value, str) else value
        return numbers if isinstance(numbers, str) or numbers is None else option_text.whole_numbers(numbers, 2, 3)

    @field_validator("voxel_size", "image_shape", "slice_shape")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value is not None and not (np.all(np.isfinite(value)) and np.min(value) > 0):
            raise ValueError("sizes must be positive")
        return value

    @field_validator("repetition", mode="before")
    @classmethod
    def _repetition(cls, value: Any) -> Any:
        if value is None or value == "mean" or (str(value).isdecimal() and not isinstance(value, bool)):
            return value if value in (None, "mean") else int(value)
        raise ValueError("give a number counted from 0, or mean")

    @field_validator("slices")
    @classmethod
    def _range(cls, value: str | None) -> str | None:
        if value is not None and not _RANGE.fullmatch(value):
            raise ValueError("give start:stop, counted from 0, for instance 10:20")
        return value

    @field_validator("axes")
    @classmethod
    def _permutation(cls, value: str | None) -> str | None:
        if value is None or option_text.is_sinogram_order(value.lower()) or option_text.is_kspace_order(value.lower()):
            return None if value is None else value.lower()
        raise ValueError(
            "give each of the letters z, a and d once, for instance zad (ad for one slice), or for k-space y, x and "
            "what else there is of z, c and r, for instance zcyx"
        )

    def paths(self) -> list[Path]:
        """List the files that are read beside the scan."""
        return [option_text.file_and_name(value)[0] for _, value in self if isinstance(value, Path)]

    @classmethod
    def create(cls, given: Mapping[str, Any] | None = None, /, **fields: Any) -> Self:
        """Validate options; strings are parsed (``--set key=value``).

        Raises
        ------
        SettingsError
            With the field, the value given and the values allowed.
        """
        try:
            return cls.model_validate({**(given or {}), **fields})
        except ValidationError as error:
            raise SettingsError(_explain(error)) from error

    def origin(self, path: Path) -> Origin:
        """Return the record of reading ``path`` with these options, to read it again from any folder."""
        given = self.model_dump(exclude_defaults=True)
        options = {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in given.items()}
        return Origin(str(path.absolute()), options)

    def refuse(self, fields: Iterable[str], name: str, kind: str) -> None:
        """Check that no option was given that does not apply to this kind of measurement.

        Raises
        ------
        SettingsError
            With the first of ``fields`` that was given.
        """
        for field in fields:
            if getattr(self, field) != type(self).model_fields[field].default:
                raise SettingsError(f"{field}: {name} is {kind}, to which this option does not apply; leave it out.")

    def slice_range(self, count: int, name: str) -> slice:
        """Return the slices to read out of ``count``.

        Raises
        ------
        SettingsError
            If no slice is selected, or the range exceeds the slices of the file.
        """
        start, _, stop = (self.slices or ":").partition(":")
        first, end = int(start or 0), int(stop or count)
        if not 0 <= first < end <= count:
            raise SettingsError(
                f"slices: must be within the {count} slices of {name}, got {self.slices}; give start:stop."
            )
        return slice(first, end)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(ReadOptions.model_fields))
        return f"{name}: unknown reading option; known are {known}."
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name}: {first['input']!r} is not possible: {reason[0].lower()}{reason[1:]}."
