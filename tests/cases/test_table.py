"""The page of situations names a test for each."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "cases.md").read_text(encoding="utf-8")
ROWS = [row.split(" | ") for row in re.findall(r"^\| (.+) \|$", PAGE, re.MULTILINE) if not row.startswith("situation")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_that_it_names_is_there(row):
    assert len(row) == 4
    named = re.fullmatch(r"`(\w+)`(?: in `([\w/.]+)`)?", row[3])
    assert named is not None
    name, file = named.groups()
    code = (ROOT / (file or "tests/cases/test_tomography.py")).read_text(encoding="utf-8")
    assert re.search(rf"^ *(def|class) {name}\b", code, re.MULTILINE)
