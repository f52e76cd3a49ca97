"""Registry of the corrections: a record for each, from which options, help and documentation follow.

To add a correction, write its function in a module of this room and put `correction` above it; its keywords with
their annotations are the parameters that a user can give.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from napari_d3ip.measurement import Sinogram


class Corrected(NamedTuple):
    """A corrected scan.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    found : dict
        What was found in it and corrected, for provenance (JSON values).
    """

    scan: Sinogram
    found: dict[str, Any]


@dataclass(frozen=True)
class Correction:
    """A correction of sinograms.

    Parameters
    ----------
    name : str
        Name in options and records.
    summary : str
        What it does, in a sentence.
    needs : str
        Which scans it is for, in a sentence.
    function : callable
        Takes a scan and its parameters as keywords.
    parameters : type of BaseModel
        Its parameters with defaults, limits and descriptions.
    """

    name: str
    summary: str
    needs: str
    function: Callable[..., Corrected]
    parameters: type[BaseModel]


_REGISTERED: dict[str, Correction] = {}
CORRECTIONS: Mapping[str, Correction] = MappingProxyType(_REGISTERED)
"""All corrections by name."""


def correction(
    name: str, summary: str, *, needs: str
) -> Callable[[Callable[..., Corrected]], Callable[..., Corrected]]:
    """Register the function below as a correction.

    Parameters
    ----------
    name, summary, needs : str
        As in `Correction`.
    """

    def register(function: Callable[..., Corrected]) -> Callable[..., Corrected]:
        hints = get_type_hints(function, include_extras=True)
        keywords = [each for each in inspect.signature(function).parameters.values() if each.kind == each.KEYWORD_ONLY]
        fields: dict[str, Any] = {
            each.name: (hints[each.name], ... if each.default is each.empty else each.default) for each in keywords
        }
        config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
        parameters = create_model(name, __config__=config, **fields)
        _REGISTERED[name] = Correction(name, summary, needs, function, parameters)
        return function

    return register
