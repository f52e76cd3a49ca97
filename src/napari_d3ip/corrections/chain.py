"""Chains of corrections: one syntax for command line, form, JSON and Python; applied in order, and recorded.

``zingers,stripes,crop:columns=10:90:rows=0:5``: names after commas, parameters after colons. A part after a colon
without ``=`` belongs to the value before it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from napari_d3ip.corrections.registry import CORRECTIONS, Correction
from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.measurement import Measurement, Origin, Sinogram

RECORD = "corrections"
"""Provenance of corrected scans: a list of what was done, in order; and the name of the read option."""

Given = str | Mapping[str, Any]


@dataclass(frozen=True)
class Link:
    """A correction with its parameters."""

    correction: Correction
    parameters: BaseModel

    def __str__(self) -> str:
        """Return it as text: name, and parameters that differ from their defaults."""
        given = self.parameters.model_dump(exclude_defaults=True)
        return ":".join([self.correction.name, *(f"{name}={value}" for name, value in given.items())])


def parse(given: Given | Sequence[Given]) -> tuple[Link, ...]:
    """Return the corrections that a text, or a list of texts and JSON objects, asks for.

    Parameters
    ----------
    given : str, mapping, or list of these
        ``zingers,harden:coefficient=0.02``, or ``["zingers", {"name": "harden", "coefficient": 0.02}]``.

    Raises
    ------
    SettingsError
        If there is no such correction or parameter, or a value is not possible.
    """
    parts = given if isinstance(given, list | tuple) else [given]
    links = tuple(link for part in parts for link in _links(part))
    if not links:
        raise SettingsError(f"corrections: none is given; known are {', '.join(CORRECTIONS)}.")
    return links


def text(links: Iterable[Link]) -> str:
    """Return a chain as the text that gives it again."""
    return ",".join(map(str, links))


def apply(scan: Sinogram, links: Iterable[Link]) -> Sinogram:
    """Apply corrections in order; the provenance of the result says what each was and found.

    Its origin is left open, since it differs from the file.

    Raises
    ------
    MeasurementError, SettingsError
        If one of them does not apply to the scan.
    """
    for link in links:
        name, parameters = link.correction.name, link.parameters.model_dump(mode="json")
        scan, found = link.correction.function(scan, **dict(link.parameters))
        done = [*scan.provenance.get(RECORD, []), {"name": name, **parameters, **found}]
        scan = replace(scan, provenance={**scan.provenance, RECORD: done}, origin=None, part_of=None)
    return scan


def correct(scan: Measurement, *corrections: Given) -> Sinogram:
    """Correct a sinogram, for instance for rings and a drift of the beam.

    Parameters
    ----------
    scan : Sinogram
        The scan; it is not changed.
    *corrections : str or mapping
        In order: ``"zingers"``, ``"drift:air=0:8"`` or ``{"name": "drift", "air": "0:8"}``; see `CORRECTIONS`.

    Returns
    -------
    Sinogram
        The corrected scan. Its provenance lists the corrections, with what they found, and if ``scan`` is as read from
        a file, copied Python and commands repeat them as the read option ``corrections``.

    Raises
    ------
    SettingsError
        If there is no such correction or parameter, or a value is not possible.
    MeasurementError
        If one of them does not apply to the scan.
    """
    if not isinstance(scan, Sinogram):
        raise MeasurementError(f"corrections: they apply to sinograms, got {scan.kind}; correct the images instead.")
    links = parse(corrections)
    return replace(apply(scan, links), origin=_origin(scan, links))


def _origin(scan: Sinogram, links: tuple[Link, ...]) -> Origin | None:
    """Return how to read the scan so corrected; None where it cannot be."""
    if scan.origin is None:
        return None
    options = dict(scan.origin.options)
    before = options.get(RECORD)
    if options.get("center") == "auto":
        # It would be looked for again, after these corrections.
        if before is not None:
            return None
        options["center"] = scan.center
    options[RECORD] = text(links) if before is None else f"{before},{text(links)}"
    return replace(scan.origin, options=options)


def _links(given: Any) -> list[Link]:
    if isinstance(given, str):
        return [_link(*_split(part)) for part in given.split(",") if part.strip()]
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise SettingsError(f"corrections: {given!r} is not possible; give a name, or an object with a name.")
    return [_link(given["name"], {name: value for name, value in given.items() if name != "name"})]


def _split(part: str) -> tuple[str, dict[str, str]]:
    """Return the name and the parameters of one correction."""
    name, *values = (value.strip() for value in part.split(":"))
    parameters: dict[str, str] = {}
    for value in values:
        key, equals, amount = value.partition("=")
        if equals and key in parameters:
            raise SettingsError(f"corrections: {name} has {key} twice; give it once.")
        if equals:
            parameters[key] = amount
        elif parameters:  # A colon within a value, such as start:stop.
            parameters[next(reversed(parameters))] += f":{value}"
        else:
            raise SettingsError(f"corrections: '{part}' is not possible; write it as {name}:PARAMETER=VALUE.")
    return name, parameters


def _link(name: str, parameters: Mapping[str, Any]) -> Link:
    if name not in CORRECTIONS:
        near = difflib.get_close_matches(name, CORRECTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(CORRECTIONS)}."
        raise SettingsError(f"corrections: there is none named '{name}'; {hint}")
    found = CORRECTIONS[name]
    try:
        return Link(found, found.parameters.model_validate(parameters))
    except ValidationError as error:
        raise SettingsError(f"corrections: {_explain(found, error)}") from error


def _explain(correction: Correction, error: ValidationError) -> str:
    first = error.errors()[0]
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = ", ".join(correction.parameters.model_fields)
        return f"{correction.name} has no {field}; " + (f"it has {known}." if known else "it has no parameters.")
    if first["type"] == "missing":
        return f"{correction.name} needs {field}; write it as {correction.name}:{field}=VALUE."
    reason = first["msg"].removeprefix("Value error, ")
    return f"{correction.name}: {field}: {first['input']!r} is not possible: {reason[0].lower()}{reason[1:]}."
