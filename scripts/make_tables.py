"""Write the tables of docs/results.md from their numbers: ``python scripts/make_tables.py``.

A table below ``<!-- table: NAME -->`` is what docs/research/tables/NAME.csv holds; its headings stay as the page has
them. A file with the columns ``row``, ``column``, ``value``, ``deviation`` and ``ssim`` (and ``task``, where a table
has several) has a line a cell, and the best of those with an SSIM are set in bold; any other is the table as it is.
What to copy there after a measurement: ``FOLDER/PART.csv`` of ``scripts/make_results.py`` as it is, and the cells of
``table.csv`` (`napari-d3ip evaluate`) and ``mri.json`` (``scripts/make_mri_results.py``).
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_TABLE = re.compile(r"(<!-- table: (.+?) -->\n)((?:\|.*\n){2})((?:\|.*\n)*)")
_CELL = ["row", "column", "value", "deviation", "ssim"]


def filled_in(page: str, folder: Path) -> str:
    """Return a page with the tables that ``folder`` holds.

    Raises
    ------
    OSError
        If a table that the page names is not there.
    """

    def replaced(found: re.Match[str]) -> str:
        with (folder / f"{found[2]}.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        rows = pivoted(lines) if set(_CELL) <= set(lines[0]) else [list(line.values()) for line in lines]
        return found[1] + found[3] + "".join(f"|{''.join(map(_in_bars, row))}\n" for row in rows)

    return _TABLE.sub(replaced, page)


def _in_bars(cell: str) -> str:
    return f" {cell} |" if cell else " |"


def pivoted(cells: list[dict[str, str]]) -> list[list[str]]:
    """Return the rows of a table that is given cell by cell."""
    columns = list(dict.fromkeys(cell["column"] for cell in cells))
    rows: list[list[str]] = []
    for task in dict.fromkeys(cell.get("task", "") for cell in cells):
        of_task = [cell for cell in cells if cell.get("task", "") == task]
        best = {column: _best([cell for cell in of_task if cell["column"] == column]) for column in columns}
        for number, row in enumerate(dict.fromkeys(cell["row"] for cell in of_task)):
            texts = {cell["column"]: _text(cell, best[cell["column"]]) for cell in of_task if cell["row"] == row}
            labels = [task if number == 0 else "", row] if task else [row]
            rows.append(labels + [texts.get(column, "") for column in columns])
    return rows


def _best(cells: list[dict[str, str]]) -> tuple[float, float]:
    """Return the highest PSNR and SSIM of a column; infinity where no cell has both."""
    scored = [cell for cell in cells if cell["ssim"]]
    if not scored:
        return float("inf"), float("inf")
    return max(float(cell["value"]) for cell in scored), max(float(cell["ssim"]) for cell in scored)


def _text(cell: dict[str, str], best: tuple[float, float]) -> str:
    """Return a cell as Markdown."""
    value = cell["value"] + (f" ± {cell['deviation']}" if cell["deviation"] else "")
    if not cell["ssim"]:
        return value
    bold = float(cell["value"]) == best[0], float(cell["ssim"]) == best[1]
    if all(bold):
        return f"**{value} / {cell['ssim']}**"
    return " / ".join(
        f"**{text}**" if strong else text for text, strong in zip((value, cell["ssim"]), bold, strict=True)
    )


def main() -> None:
    """Write the page anew."""
    page = DOCS / "results.md"
    page.write_text(filled_in(page.read_text(encoding="utf-8"), DOCS / "research" / "tables"), encoding="utf-8")


if __name__ == "__main__":
    main()
