"""Select settings on development scans and freeze them: the values with the highest mean PSNR."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from napari_d3ip.errors import FileError, SettingsError
from napari_d3ip.evaluate.folder import Row
from napari_d3ip.evaluate.plan import Condition, Plan, display_value
from napari_d3ip.evaluate.scans import Scan
from napari_d3ip.files import read_text

Run = Callable[[Scan, Sequence[Condition]], Iterable[Row]]


@dataclass(frozen=True)
class Tuning:
    """Outcome of `tune`.

    Parameters
    ----------
    development : list of str
        Names of the development scans.
    chosen : dict
        Value by setting, by method, by group of scans (`Scan.group`).
    trials : list of dict
        ``group``, ``method``, ``key``, ``value`` and ``psnr``, the mean in dB, of every trial.
    """

    development: list[str]
    chosen: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the result as JSON."""
        path.write_text(json.dumps(vars(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tuning:
        """Read a file of `save`.

        Raises
        ------
        SettingsError
            If the file cannot be read or has other content.
        """
        try:
            return TypeAdapter(cls).validate_json(read_text(path))
        except (FileError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SettingsError(
                f"tuned: {path} must be a tuned.json of --tune ({reason}); give another file."
            ) from error

    def notes(self) -> list[str]:
        """Return notes for readers of the table."""
        found = [f"Tuned on {', '.join(self.development)}, then frozen."]
        for group, methods in self.chosen.items():
            for method, values in methods.items():
                for key, value in values.items():
                    if value in self._ends(group, method, key):
                        found.append(f"{group}, {method}: {key}={value} is at the end of the tried values.")
        return found

    def _ends(self, group: str, method: str, key: str) -> list[Any]:
        """Return the first and the last of three or more tried values."""
        about = {"group": group, "method": method, "key": key}
        tried = [trial["value"] for trial in self.trials if about.items() <= trial.items()]
        return [tried[0], tried[-1]] if len(tried) > 2 else []


def check_tuning(scans: Sequence[Scan], development: Sequence[Scan], plan: Plan, tuned: Tuning | None) -> None:
    """Validate the tuning before anything is run.

    Raises
    ------
    SettingsError
        If development scans or settings to tune are missing, a value is invalid, no method has the setting, or a
        scan to evaluate was tuned on.
    """
    if bool(development) != bool(plan.tuning):
        missing, given = ("tune", "development scans") if development else ("development", "settings to tune")
        raise SettingsError(f"{missing}: {given} are given without it; give both or neither.")
    if tuned is not None:
        seen = [scan.name for scan in scans if scan.name in tuned.development]
        if seen or plan.tuning:
            reason = f"{seen[0]} was tuned on and cannot be a test scan" if seen else "it comes with settings to tune"
            raise SettingsError(f"tuned: {reason}; leave out one of them.")
    for name in plan.tuning:
        if not [variant for scan in development for variant in plan.variants_to_tune(scan, name, {})]:
            raise SettingsError(f"tune: no method for the development scans has {name}; leave it out.")


def tune(scans: Sequence[Scan], plan: Plan, run: Run) -> Tuning:
    """Select the values of ``plan.tuning``, one setting after the other, each with those selected before.

    Parameters
    ----------
    scans : sequence of Scan
        Development scans, with their references.
    plan : Plan
        Plan with the values to try.
    run : callable
        Computes the rows of the conditions on a scan.

    Raises
    ------
    SettingsError
        If a scan has no reference.
    """
    tuning = Tuning([scan.name for scan in scans], {scan.group: {} for scan in scans})
    for name, values in plan.tuning.items():
        scores: dict[tuple[str, str, str], dict[Any, list[float]]] = {}
        for scan in scans:
            for row in run(scan, plan.variants_to_tune(scan, name, tuning.chosen[scan.group])):
                if row["psnr"] is None:
                    raise SettingsError(f"development: {scan.name} has no reference; give its reference.")
                of_value = scores.setdefault((scan.group, row["method"], row["sweep"]["key"]), {})
                of_value.setdefault(row["sweep"]["value"], []).append(row["psnr"])
        by_name = {display_value(value): value for value in values}
        for (group, method, key), of_value in scores.items():
            means = {by_name[value]: statistics.fmean(found) for value, found in of_value.items()}
            about = {"group": group, "method": method, "key": key}
            tuning.trials.extend({**about, "value": value, "psnr": mean} for value, mean in means.items())
            tuning.chosen[group].setdefault(method, {})[key] = max(means, key=means.__getitem__)
    return tuning
