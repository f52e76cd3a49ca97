"""What a caller may add to, or say against, what a file states: one validated, documented model.

Pydantic only: the import widget and the command line (``--set key=value``) are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from napari_d3ip.errors import SettingsError

Values = Literal["counts", "transmission", "line_integrals"]
AngleUnit = Literal["degree", "radian"]


class ReadOptions(BaseModel):
    """How to read a scan; a field left at ``None`` is taken from the file.

    What is given here wins over what the file states, and is recorded in the measurement's provenance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    angles: Path | tuple[float, ...] | None = Field(
        None, description="Projection angles: a text, csv or npy file, or the numbers themselves."
    )
    angle_unit: AngleUnit | None = Field(
        None, description="Unit of the angles; as the file states, else degree if their range allows no doubt."
    )
    axes: str | None = Field(
        None,
        description="Meaning of the file's axes in order: z (along the rotation axis), a (angle), d (detector); "
        "zad for a stack of sinograms, azd for a stack of projections.",
    )
    center: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Rotation axis on the detector, in pixels counted from 0."
    )
    dataset: str | None = Field(
        None, min_length=1, description="Path of the data in an HDF5 file, or name of a variable (npz, mat)."
    )
    values: Values | None = Field(
        None, description="What the numbers are: detector counts, transmission, or line integrals (-log done)."
    )
    flats: Path | None = Field(None, description="Flat fields (beam without sample): npy, TIFF or folder of TIFFs.")
    darks: Path | None = Field(None, description="Dark fields (no beam): npy, TIFF or folder of TIFFs.")
    clip_transmission: float | None = Field(
        None, gt=0, lt=1, description="Raise transmissions below this to it before -log; without it they are an error."
    )
    voxel_size: float | tuple[float, float, float] | None = Field(
        None, description="Voxel size in unit: one number, or z, y, x."
    )
    unit: str | None = Field(None, min_length=1, description="Unit of the voxel size, for instance micrometer.")
    detector_pitch: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Detector pixels in units of image pixels."
    )

    @field_validator("angles", mode="before")
    @classmethod
    def _angles(cls, value: Any) -> Any:
        """Numbers from arrays and from text such as ``0,30,60``; other text is a path."""
        if isinstance(value, np.ndarray):
            return tuple(value.ravel().tolist())
        return _numbers(value) if isinstance(value, str) else value

    @field_validator("voxel_size", mode="before")
    @classmethod
    def _voxel_size(cls, value: Any) -> Any:
        return _numbers(value) if isinstance(value, str) else value

    @field_validator("voxel_size")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value is not None and not (np.all(np.isfinite(value)) and np.min(value) > 0):
            raise ValueError("voxel sizes must be positive")
        return value

    @field_validator("axes")
    @classmethod
    def _permutation(cls, value: str | None) -> str | None:
        if value is not None and sorted(value.lower()) != ["a", "d", "z"]:
            raise ValueError("give each of the letters z, a and d once, for instance zad")
        return None if value is None else value.lower()

    @classmethod
    def create(cls, given: Mapping[str, Any] | None = None, /, **fields: Any) -> ReadOptions:
        """Validate, with one clear sentence on failure; strings are parsed (``--set key=value``).

        Raises
        ------
        SettingsError
            Naming the field, what was given and what is allowed.
        """
        try:
            return cls.model_validate({**(given or {}), **fields})
        except ValidationError as error:
            raise SettingsError(_explain(error)) from error


def _numbers(text: str) -> str | tuple[float, ...] | float:
    """The numbers of a comma-separated text, one number alone, or the text itself if it holds others."""
    try:
        numbers = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        return text
    return numbers if "," in text else text


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(ReadOptions.model_fields))
        return f"{name}: there is no such reading option; known are {known}."
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name}: {first['input']!r} is not possible: {reason[0].lower()}{reason[1:]}."
