"""Sort the images of a series by the numbers in their names, and find angles among these numbers.

Names and lists of angles only; no file access.
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
# Dates and times, whose parts belong together; else a number, without a sign if a digit precedes it.
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
# Unsigned decimals without a keyword are angles if they span at least 90 degrees modulo 180, within one turn.
_COVERED = 90.0
_TURN = 360.5
_FEWEST = 3


@dataclass(frozen=True)
class OrderedSeries:
    """Sorted images of a series.

    Parameters
    ----------
    files : list of Path
        Images in order.
    how : str
        Criterion of the order, for provenance.
    angles : ndarray, optional
        Degrees in the names, if no list was given and the numbers are unambiguously angles.
    """

    files: list[Path]
    how: str
    angles: AngleArray | None = None


def prefix(file: Path) -> str:
    """Return the part of a name before its first number and that number's sign."""
    return _PREFIX.split(file.stem)[0]


def sort_naturally(files: Sequence[Path]) -> list[Path]:
    """Return files in natural order of their names: 2 before 10."""
    return sorted(files, key=lambda file: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", file.name)])


def sort_images(files: Sequence[Path], angles: AngleArray | None, pattern: str | None = None) -> OrderedSeries:
    """Order the images of one series by their names.

    The criterion is the number that varies; if several do, the order in which angles in the names match the list.

    Parameters
    ----------
    files : sequence of Path
        Images of one prefix, at least one.
    angles : ndarray, optional
        List of angles in degrees, shape (n,).
    pattern : str, optional
        Names with ``#`` at the numbers to sort by and ``*`` at other varying numbers.

    Raises
    ------
    LayoutQuestion
        If angles are given, but the order remains open, or if it depends on whether a comma is a decimal comma.
    FileError
        If ``pattern`` does not match these names.
    """
    natural = sort_naturally(files)
    readings = _readings(natural)
    if pattern is not None:
        return _by_pattern(readings, natural, pattern, angles)
    if len(readings) < 2:
        return _in_order(readings[0] if readings else None, natural, angles)
    found: list[OrderedSeries] = []
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
    without = _Names.from_files(files)
    if not any(_COMMA.search(file.stem) for file in files):
        return [] if without is None else [without]
    names = _Names.from_files(files, _NUMBER_WITH_COMMA)
    if names is None or without is None:
        return [each for each in (names, without) if each is not None]
    return [names] if names.have_decimal_commas() else [names, without]


def _are_same(first: OrderedSeries, second: OrderedSeries) -> bool:
    """Whether two orders are one, with the same angles."""
    angles = [None if each.angles is None else each.angles.tolist() for each in (first, second)]
    return first.files == second.files and angles[0] == angles[1]


def _in_order(names: _Names | None, natural: list[Path], angles: AngleArray | None) -> OrderedSeries:
    """Order by the numbers of one reading of the names."""
    if names is None or not names.varying:
        return OrderedSeries(natural, "names")
    evident = names.evident_angles()
    if angles is None and evident is not None:
        order = names.by((evident, *names.varying))
        how = f"angles in the names, {names.pattern((evident,))}"
        return names.arrange(order, how, names.values[order, evident])
    if angles is None or len(angles) != len(natural):  # The caller asks for angles or rejects these.
        return names.arrange(names.by(names.varying), f"numbers in the names, {names.pattern(names.varying)}")
    agreeing = names.order_that_agrees(angles, evident)
    if agreeing is not None:
        order, place = agreeing
        return names.arrange(order, f"angles in the names, {names.pattern((place,))}, which agree with those given")
    return _by_keys(names)


def _by_keys(names: _Names) -> OrderedSeries:
    """Sort by a number that could count the images, if all such numbers give the same order."""
    orders: dict[tuple[int, ...], str] = {}
    for key in names.counting():
        orders.setdefault(tuple(names.by(key).tolist()), names.pattern(key))
    if len(orders) > 1:
        patterns = tuple(orders.values())
        raise LayoutQuestion(
            f"dataset: names of images such as {names.files[0].name} hold several numbers that put them in different "
            "orders, none of which matches the given angles; give dataset=PATTERN, "
            f"{' or '.join(patterns)}, where # is the number that counts the images.",
            needs="dataset",
            candidates=patterns,
        )
    ((order, found),) = orders.items()
    return names.arrange(np.array(order), f"numbers in the names, {found}")


def _by_pattern(
    readings: list[_Names], files: Sequence[Path], pattern: str, angles: AngleArray | None
) -> OrderedSeries:
    """Order by the numbers that a pattern says."""
    for names in readings:
        key = names.patterns().get(pattern)
        if key is not None:
            how, evident = f"the dataset option {pattern}", names.evident_angles()
            if evident is None or key != (evident,):
                return names.arrange(names.by(key), how)
            order = names.by((evident, *names.varying))
            return names.arrange(order, how, names.values[order, evident] if angles is None else None)
    known = " or ".join(chain.from_iterable(names.patterns() for names in readings)) or "the beginning of names"
    raise FileError(f"dataset: pattern must match names such as {files[0].name}, got {pattern}; give {known}.")


@dataclass(frozen=True)
class _Names:
    """Names of one series: numbers, as written, between the same words."""

    files: list[Path]
    words: tuple[str, ...]
    numbers: list[list[str]]

    @classmethod
    def from_files(cls, files: list[Path], number: re.Pattern[str] = _NUMBER) -> _Names | None:
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
        """Return the numbers, shape (file, place); dates and times are replaced by their rank."""
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
        """Return the places whose numbers differ."""
        return tuple(place for place in range(len(self.words) - 1) if np.ptp(self.values[:, place]) > 0)

    def by(self, places: Sequence[int]) -> Order:
        """Return the order by the numbers at some places, the first most significant; ties keep the natural order."""
        return np.lexsort([self.values[:, place] for place in reversed(places)])

    def arrange(self, order: Order, how: str, angles: AngleArray | None = None) -> OrderedSeries:
        """Return the series with its files in an order."""
        return OrderedSeries([self.files[index] for index in order], how, angles)

    def counting(self) -> list[tuple[int, ...]]:
        """Return the places that could count the images: each number that always differs, and all that vary together.

        A date or time is combined with those before it.
        """
        candidates = [place for place in self.varying if not self._is_quantity(place)] or list(self.varying)
        times = [place for place in candidates if self._is_time(place)]
        single = [tuple(times[: times.index(place) + 1]) if place in times else (place,) for place in candidates]
        differing = [key for key in single if len(np.unique(self.values[:, key], axis=0)) == len(self.files)]
        return list(dict.fromkeys([*differing, tuple(candidates)]))

    def pattern(self, places: Sequence[int]) -> str:
        """Return the names with # for the numbers at some places and * for other varying numbers."""
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
        """Return the place of the numbers that are unambiguously angles in degrees, if it is the only one."""
        found = [place for place in self.varying if self._is_angle(place)]
        return found[0] if len(found) == 1 else None

    def order_that_agrees(self, angles: AngleArray, evident: int | None) -> tuple[Order, int] | None:
        """Return the order in which the numbers at one place equal the listed angles, and that place."""
        numbers = [place for place in self.varying if not self._is_time(place)]
        numbers.sort(key=lambda place: (place != evident, self._counts(place)))
        # Prefer the order of acquisition, if another number counts the images.
        for place in numbers:
            for key in self.counting():
                order = self.by(key)
                if np.all(np.abs(_wrap_angles(self.values[order, place] - angles)) <= self._precision(place)):
                    return order, place
        for place in numbers:
            found = None if self._counts(place) and place != evident else self._match_angles(place, angles)
            if found is None and place == evident:
                found = self._match_shifted(place, angles)
            if found is not None:
                return found, place
        return None

    def _match_angles(self, place: int, angles: AngleArray) -> Order | None:
        """Return the order in which the numbers at a place equal the listed angles, possibly modulo full turns."""
        precision = self._precision(place)
        rounded = np.round(angles / precision) * precision
        for written, listed in (
            (self.values[:, place], angles),
            (np.mod(self.values[:, place], 360.0), np.mod(rounded, 360.0)),
        ):
            order, difference = _pair_by_rank(written, listed)
            if np.all(np.abs(difference) <= 1.001 * precision):
                return order
        return None

    def _match_shifted(self, place: int, angles: AngleArray) -> Order | None:
        """Return the order of rounded or shifted angles at a place that correspond to the listed angles."""
        order, difference = _pair_by_rank(self.values[:, place], angles)
        steps = np.diff(np.unique(self.values[:, place]))
        return order if np.all(np.abs(difference - np.median(difference)) <= np.median(steps)) else None

    def _is_angle(self, place: int) -> bool:
        """Return whether numbers are unambiguously angles in degrees: by keyword, sign, or decimals over a turn."""
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
        """Return whether decimals have a unit other than degrees, such as 199.8mA."""
        after = self.words[place + 1]
        return self._decimals(place) > 0 and after[:1].isalpha() and not _DEGREES_AFTER.match(after)

    def _is_hyphened(self, place: int) -> bool:
        """Return whether what could be a sign is a hyphen after a word, in all names."""
        return self.words[place][-1:].isalnum() and all(row[place][0] == "-" for row in self.numbers)

    def _is_time(self, place: int) -> bool:
        """Return whether these are dates or times of several parts."""
        return any(len(re.findall(r"\d+", row[place])) > 2 for row in self.numbers)

    def _counts(self, place: int) -> bool:
        """Return whether these are consecutive whole numbers."""
        return self._decimals(place) == 0 and bool(np.all(np.diff(np.sort(self.values[:, place])) == 1))

    def _decimals(self, place: int) -> int:
        return max(len(row[place].replace(",", ".").partition(".")[2]) for row in self.numbers)

    def _precision(self, place: int) -> float:
        return float(10.0 ** -self._decimals(place))


def _pair_by_rank(written: AngleArray, listed: AngleArray) -> tuple[Order, AngleArray]:
    """Pair sorted numbers with a sorted list; return the order of the numbers and the differences."""
    from_names, from_list = np.argsort(written, kind="stable"), np.argsort(listed, kind="stable")
    order = np.empty(len(listed), np.intp)
    order[from_list] = from_names
    return order, written[from_names] - listed[from_list]


def _wrap_angles(degrees: AngleArray) -> AngleArray:
    """Wrap differences of angles to a half-open turn around 0."""
    return np.mod(degrees + 180.0, 360.0) - 180.0


def _as_date(match: re.Match[str]) -> str:
    """Return month and day as the parts of a date, after the last digit of a year if there is one."""
    date = f"{_MONTH_NAMES.index(match[2].lower()) + 1}.{match[3]}"
    return f"{match[1]}.{date}" if match[1] else f"{date}.0"
