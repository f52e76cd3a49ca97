"""Order of the images of a series by the numbers in their names, and the angles that some of these numbers are.

Knows names and lists of angles; opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement.directions import covered

AngleArray = npt.NDArray[np.float64]
Order = npt.NDArray[np.intp]
# Dates and times, whose parts count together; else a number, whose sign is none where a digit precedes it.
_NUMBER = re.compile(r"\d+(?:[.:]\d+){2,}|\d+(?:-\d+){2,}|(?:(?<!\d)[+-])?\d+(?:\.\d+)?")
# A comma between two numbers, neither of which goes on before or after; with it the two may be one.
_COMMA = re.compile(r"(?<![\d.,:])\d+,\d+(?![.,:]?\d)")
_NUMBER_WITH_COMMA = re.compile(rf"(?:(?<!\d)[+-])?{_COMMA.pattern}|{_NUMBER.pattern}")
_PREFIX = re.compile(r"[+-]?\d")
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = re.compile(rf"({'|'.join(_MONTH_NAMES)})[a-z]{{0,6}}$", re.IGNORECASE)
_DATE = re.compile(rf"(\d?)({'|'.join(_MONTH_NAMES)})[a-z]{{0,6}}[-_ ]?(\d{{1,2}})(?!\d)", re.IGNORECASE)
_BEFORE_ANGLES = re.compile(r"(?:ang|angle|theta|tilt|rot|rotation|deg|degrees?)[^a-z0-9]*$", re.IGNORECASE)
_DEGREES_AFTER = re.compile(r"^(?:deg|°)", re.IGNORECASE)
# Unsigned decimals without a word are angles if they cover so many degrees of half a turn, within one turn.
_COVERED = 90.0
_TURN = 360.5
_FEWEST = 3


@dataclass(frozen=True)
class Ordered:
    """Images of a series in order.

    Parameters
    ----------
    files : list of Path
        In order.
    how : str
        What the order follows, for provenance.
    angles : ndarray, optional
        Degrees in their names, if no list was given and these are evidently angles.
    """

    files: list[Path]
    how: str
    angles: AngleArray | None = None


def prefix(file: Path) -> str:
    """Return what a name begins with, before its first number and the sign of that."""
    return _PREFIX.split(file.stem)[0]


def in_natural_order(files: Sequence[Path]) -> list[Path]:
    """Return files sorted by name as people count: 2 before 10."""
    return sorted(files, key=lambda file: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", file.name)])


def in_order(files: Sequence[Path], angles: AngleArray | None, pattern: str | None = None) -> Ordered:
    """Order the images of one series by their names.

    By the number that varies; if several do, such that angles in the names agree with the list of angles.

    Parameters
    ----------
    files : sequence of Path
        Images of one prefix, at least one.
    angles : ndarray, optional
        List of angles in degrees, shape (n,).
    pattern : str, optional
        Names with ``#`` at the numbers to sort by and ``*`` at others that vary, if that was said.

    Raises
    ------
    LayoutQuestion
        If angles are given, but the order remains open, or if it depends on whether a comma is a decimal comma.
    FileError
        If ``pattern`` is none of these names.
    """
    natural = in_natural_order(files)
    readings = _readings(natural)
    if pattern is not None:
        return _by_pattern(readings, natural, pattern, angles)
    if len(readings) < 2:
        return _in_order(readings[0] if readings else None, natural, angles)
    found: list[Ordered] = []
    for names in readings:
        with suppress(LayoutQuestion):
            found.append(_in_order(names, natural, angles))
    if len(found) == len(readings) and _are_same(*found):
        return found[0]
    patterns = tuple(dict.fromkeys(chain.from_iterable(names.patterns() for names in readings)))
    whole, *others = patterns
    raise LayoutQuestion(
        f"dataset: the comma in names of images such as {natural[0].name} may be a decimal comma or separate two "
        f"numbers; give dataset={whole} for a decimal comma, or else dataset={' or '.join(others)}, where # is the "
        "number that counts the images.",
        needs="dataset",
        candidates=patterns,
    )


def _readings(files: list[Path]) -> list[_Names]:
    """Numbers in the names: with decimal commas, if there may be any; and without, if these need not be."""
    without = _Names.of(files)
    if not any(_COMMA.search(file.stem) for file in files):
        return [] if without is None else [without]
    names = _Names.of(files, _NUMBER_WITH_COMMA)
    if names is None or without is None:
        return [each for each in (names, without) if each is not None]
    return [names] if names.have_decimal_commas() else [names, without]


def _are_same(first: Ordered, second: Ordered) -> bool:
    """Whether two orders are one, with the same angles."""
    angles = [None if each.angles is None else each.angles.tolist() for each in (first, second)]
    return first.files == second.files and angles[0] == angles[1]


def _in_order(names: _Names | None, natural: list[Path], angles: AngleArray | None) -> Ordered:
    """Order by the numbers of one reading of the names."""
    if names is None or not names.varying:
        return Ordered(natural, "names")
    evident = names.evident_angles()
    if angles is None and evident is not None:
        order = names.by((evident, *names.varying))
        how = f"angles in the names, {names.pattern((evident,))}"
        return names.ordered(order, how, names.values[order, evident])
    if angles is None or len(angles) != len(natural):  # Asked for, or refused, later.
        return names.ordered(names.by(names.varying), f"numbers in the names, {names.pattern(names.varying)}")
    agreeing = names.order_that_agrees(angles, evident)
    if agreeing is not None:
        order, place = agreeing
        return names.ordered(order, f"angles in the names, {names.pattern((place,))}, which agree with those given")
    return _by_keys(names)


def _by_keys(names: _Names) -> Ordered:
    """Order by numbers that could count the images, if all of these agree."""
    orders: dict[tuple[int, ...], str] = {}
    for key in names.counting():
        orders.setdefault(tuple(names.by(key).tolist()), names.pattern(key))
    if len(orders) > 1:
        patterns = tuple(orders.values())
        raise LayoutQuestion(
            f"dataset: names of images such as {names.files[0].name} hold several numbers that put them in different "
            f"orders, and none is the angles given; give dataset=PATTERN, {' or '.join(patterns)}, where # is the "
            "number that counts the images.",
            needs="dataset",
            candidates=patterns,
        )
    ((order, found),) = orders.items()
    return names.ordered(np.array(order), f"numbers in the names, {found}")


def _by_pattern(readings: list[_Names], files: Sequence[Path], pattern: str, angles: AngleArray | None) -> Ordered:
    """Order by the numbers that a pattern says."""
    for names in readings:
        key = names.patterns().get(pattern)
        if key is not None:
            how, evident = f"the dataset option {pattern}", names.evident_angles()
            if evident is None or key != (evident,):
                return names.ordered(names.by(key), how)
            order = names.by((evident, *names.varying))
            return names.ordered(order, how, names.values[order, evident] if angles is None else None)
    known = " or ".join(chain.from_iterable(names.patterns() for names in readings)) or "the beginning of names"
    raise FileError(f"dataset: {pattern} is no pattern of names such as {files[0].name}; give {known}.")


@dataclass(frozen=True)
class _Names:
    """Names of one series: numbers, as written, at the same places between the same words."""

    files: list[Path]
    words: tuple[str, ...]
    numbers: list[list[str]]

    @classmethod
    def of(cls, files: list[Path], number: re.Pattern[str] = _NUMBER) -> _Names | None:
        """Take names apart at what is a number; None if they are not alike."""
        stems = [file.stem for file in files]
        names = cls._alike(files, stems, number)
        if names is None or any(_MONTH.search(names.words[place]) for place in names.varying):
            # Over the end of a day or a month.
            names = cls._alike(files, [_DATE.sub(_as_date, stem) for stem in stems], number) or names
        return names

    @classmethod
    def _alike(cls, files: list[Path], stems: list[str], number: re.Pattern[str]) -> _Names | None:
        words = {tuple(number.split(stem)) for stem in stems}
        return cls(files, words.pop(), [number.findall(stem) for stem in stems]) if len(words) == 1 else None

    def have_decimal_commas(self) -> bool:
        """Whether commas in numbers can be but decimal commas.

        The digits after them are as many in all names and vary, but do not count: frames, rows or columns do.
        """
        for place in range(len(self.words) - 1):
            decimals = [row[place].partition(",")[2] for row in self.numbers]
            if not any(decimals):
                continue
            distinct = np.unique([int(each or 0) for each in decimals])
            counts = bool(np.all(np.diff(distinct) == 1)) and distinct[-1] > 0
            if len(set(map(len, decimals))) > 1 or counts:
                return False
        return True

    @cached_property
    def values(self) -> AngleArray:
        """Numbers, shape (file, place); of dates and times, their rank."""
        columns = [self._column(place) for place in range(len(self.words) - 1)]
        return np.array(columns, np.float64).reshape(len(columns), len(self.files)).T

    def _column(self, place: int) -> AngleArray:
        written = [row[place] for row in self.numbers]
        if self._is_time(place):
            parts = [tuple(map(int, re.findall(r"\d+", number))) for number in written]
            ranks = {each: rank for rank, each in enumerate(sorted(set(parts)))}
            return np.array([ranks[each] for each in parts], np.float64)
        values = np.array([number.replace(",", ".") for number in written], np.float64)
        return np.abs(values) if self._is_hyphened(place) else values

    @cached_property
    def varying(self) -> tuple[int, ...]:
        """Places whose numbers differ."""
        return tuple(place for place in range(len(self.words) - 1) if np.ptp(self.values[:, place]) > 0)

    def by(self, places: Sequence[int]) -> Order:
        """Order by the numbers at some places, the first counting most; natural where they are equal."""
        return np.lexsort([self.values[:, place] for place in reversed(places)])

    def ordered(self, order: Order, how: str, angles: AngleArray | None = None) -> Ordered:
        """Return the files in an order."""
        return Ordered([self.files[index] for index in order], how, angles)

    def counting(self) -> list[tuple[int, ...]]:
        """Return the places that could count the images: each number that always differs, and all that vary.

        Of dates and times, with those that come before.
        """
        candidates = [place for place in self.varying if not self._is_quantity(place)] or list(self.varying)
        times = [place for place in candidates if self._is_time(place)]
        single = [tuple(times[: times.index(place) + 1]) if place in times else (place,) for place in candidates]
        differing = [key for key in single if len(np.unique(self.values[:, key], axis=0)) == len(self.files)]
        return list(dict.fromkeys([*differing, tuple(candidates)]))

    def pattern(self, places: Sequence[int]) -> str:
        """Return the names with # for the numbers at some places and * for others that vary."""
        marks = [
            "#" if place in places else "*" if place in self.varying else number
            for place, number in enumerate(self.numbers[0])
        ]
        return "".join(chain.from_iterable(zip(self.words, [*marks, ""], strict=True)))

    def patterns(self) -> dict[str, tuple[int, ...]]:
        """Return the places that may be said to count the images, or to be their angles, by their patterns."""
        evident = self.evident_angles()
        keys = [*([] if evident is None else [(evident,)]), *self.counting()] if self.varying else []
        return {self.pattern(key): key for key in keys}

    def evident_angles(self) -> int | None:
        """Return the place of the only numbers that are evidently angles in degrees."""
        found = [place for place in self.varying if self._is_angle(place)]
        return found[0] if len(found) == 1 else None

    def order_that_agrees(self, angles: AngleArray, evident: int | None) -> tuple[Order, int] | None:
        """Return the order in which the numbers at one place are the angles of a list, and that place."""
        numbers = [place for place in self.varying if not self._is_time(place)]
        numbers.sort(key=lambda place: (place != evident, self._counts(place)))
        # As the images were taken, if another number counts them.
        for place in numbers:
            for key in self.counting():
                order = self.by(key)
                if np.all(np.abs(_around(self.values[order, place] - angles)) <= self._precision(place)):
                    return order, place
        for place in numbers:
            found = None if self._counts(place) and place != evident else self._matched(place, angles)
            if found is None and place == evident:
                found = self._near(place, angles)
            if found is not None:
                return found, place
        return None

    def _matched(self, place: int, angles: AngleArray) -> Order | None:
        """Order in which the numbers at a place are the angles of a list, maybe some turns further."""
        precision = self._precision(place)
        rounded = np.round(angles / precision) * precision
        for written, listed in (
            (self.values[:, place], angles),
            (np.mod(self.values[:, place], 360.0), np.mod(rounded, 360.0)),
        ):
            order, difference = _paired(written, listed)
            if np.all(np.abs(difference) <= 1.001 * precision):
                return order
        return None

    def _near(self, place: int, angles: AngleArray) -> Order | None:
        """Order of the angles at a place that a list refines, or counts from elsewhere."""
        order, difference = _paired(self.values[:, place], angles)
        steps = np.diff(np.unique(self.values[:, place]))
        return order if np.all(np.abs(difference - np.median(difference)) <= np.median(steps)) else None

    def _is_angle(self, place: int) -> bool:
        """Whether numbers are evidently angles in degrees: by a word, by their signs, or by decimals over a turn."""
        values = self.values[:, place]
        distinct = np.unique(values)
        if self._is_time(place) or self._is_hyphened(place) or self._is_quantity(place):
            return False
        if len(distinct) < _FEWEST or np.abs(values).max() > _TURN:
            return False
        if _DEGREES_AFTER.match(self.words[place + 1]):
            return True
        if _BEFORE_ANGLES.search(self.words[place]) and not self._counts(place):
            return True
        if values.min() < 0 < values.max() or any(row[place][0] == "+" for row in self.numbers):
            return True
        return self._decimals(place) > 0 and (values.min() < 0 or covered(distinct) >= _COVERED)

    def _is_quantity(self, place: int) -> bool:
        """Whether decimals have a unit other than degrees, as 199.8mA."""
        after = self.words[place + 1]
        return self._decimals(place) > 0 and after[:1].isalpha() and not _DEGREES_AFTER.match(after)

    def _is_hyphened(self, place: int) -> bool:
        """Whether what could be a sign is a hyphen after a word, in all names."""
        return self.words[place][-1:].isalnum() and all(row[place][0] == "-" for row in self.numbers)

    def _is_time(self, place: int) -> bool:
        """Whether these are dates or times of several parts."""
        return any(len(re.findall(r"\d+", row[place])) > 2 for row in self.numbers)

    def _counts(self, place: int) -> bool:
        """Whether these are whole numbers one after the other, as images are counted."""
        return self._decimals(place) == 0 and bool(np.all(np.diff(np.sort(self.values[:, place])) == 1))

    def _decimals(self, place: int) -> int:
        return max(len(row[place].replace(",", ".").partition(".")[2]) for row in self.numbers)

    def _precision(self, place: int) -> float:
        return float(10.0 ** -self._decimals(place))


def _paired(written: AngleArray, listed: AngleArray) -> tuple[Order, AngleArray]:
    """Order of numbers that pairs the smallest with the smallest of a list, and their differences by size."""
    from_names, from_list = np.argsort(written, kind="stable"), np.argsort(listed, kind="stable")
    order = np.empty(len(listed), np.intp)
    order[from_list] = from_names
    return order, written[from_names] - listed[from_list]


def _around(degrees: AngleArray) -> AngleArray:
    """Difference of angles on a circle."""
    return np.mod(degrees + 180.0, 360.0) - 180.0


def _as_date(match: re.Match[str]) -> str:
    """Month and day, after the last digit of a year if there is one, as the parts of a date."""
    date = f"{_MONTH_NAMES.index(match[2].lower()) + 1}.{match[3]}"
    return f"{match[1]}.{date}" if match[1] else f"{date}.0"
