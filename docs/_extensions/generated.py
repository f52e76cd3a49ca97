"""What the reference takes from the code when the site is built, so that it cannot be out of date.

A page asks for it by a comment, ``<!-- generated: NAME -->``; NAME is a key of `PARTS`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from napari_d3ip.corrections import CORRECTIONS
from napari_d3ip.io.options import KSPACE_ONLY, SINOGRAM_ONLY, STACK_ONLY, ReadOptions
from napari_d3ip.reconstruction.resolve import TASKS
from napari_d3ip.settings import KINDS, METHODS, PAPER_MRI, PRESETS, Settings, fields_for, methods_for


def settings() -> Iterator[str]:
    """Table of `Settings`, a row a field."""
    ct, mri, stack = (
        {name for method in methods_for(kind) for name in fields_for(kind, method)}
        for kind in ("sinogram", "kspace", "stack")
    )
    only = {"CT only": ct - mri - stack, "MRI only": mri - ct - stack, "Not in MRI": (ct & stack) - mri}
    yield from _table(Settings, only)


_KINDS = {"sinogram": "CT", "kspace": "MRI", "stack": "stacks", "linear": "operators"}


def methods() -> Iterator[str]:
    """Table of the registry of methods, a row a method."""
    yield "| method | what it does | of |"
    yield "|---|---|---|"
    for method in METHODS.values():
        kinds = [short for kind, short in _KINDS.items() if kind in KINDS and method.is_for(kind)]
        of = "all" if len(kinds) == len(_KINDS) else ", ".join(kinds)
        yield f"| `{method.name}` | {method.summary} | {of} |"


def reading_options() -> Iterator[str]:
    """Table of `ReadOptions`, a row a field."""
    mri_only = set(KSPACE_ONLY) - {"mask", "noise_level"}
    only = {"CT only": set(SINOGRAM_ONLY), "MRI only": mri_only, "Stacks only": set(STACK_ONLY)}
    yield from _table(ReadOptions, only)


def corrections() -> Iterator[str]:
    """Table of the registry of corrections, a row a correction."""
    yield "| correction | what it does | parameters |"
    yield "|---|---|---|"
    for name, record in CORRECTIONS.items():
        fields = record.parameters.model_json_schema().get("properties", {})
        parameters = []
        for field, values in fields.items():
            default = values.get("default", "needed")
            default = "not given" if default is None else _plain(default)
            parameters.append(f"`{field}` ({default}): {values['description']}")
        yield f"| `{name}` | {record.summary} *For:* {record.needs} | {'<br/>'.join(parameters)} |"


def _table(model: type[BaseModel], restricted: dict[str, set[str]]) -> Iterator[str]:
    yield "| | default | |"
    yield "|---|---|---|"
    for name, field in model.model_json_schema()["properties"].items():
        only = "".join(f"*{kind}.*" for kind, names in restricted.items() if name in names)
        about = " ".join(filter(None, [field["description"], _values(field), only]))
        row = (f"`{name}`", _default(field["default"], model), about)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


_WORDS = {"integer": "Whole number", "number": "Number", "boolean": "`true` or `false`", "array": "Numbers"}
_TEXT = "Text"
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _values(field: dict[str, Any]) -> str:
    """Describe the allowed values in a sentence; in none where any text will do."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    first, *others = dict.fromkeys(_kind(kind) for kind in kinds)
    return "" if first == _TEXT else " or ".join([first, *map(str.lower, others)]) + "."


def _kind(kind: dict[str, Any]) -> str:
    if "const" in kind:
        return f"`{kind['const']}`"
    if "enum" in kind:
        return "One of " + ", ".join(f"`{value}`" for value in kind["enum"])
    if kind["type"] == "string":
        return "Path" if kind.get("format") == "path" else _TEXT
    limits = ", ".join(f"{_SIGNS[key]} {kind[key]}" for key in _SIGNS if key in kind)
    return " ".join(filter(None, [_WORDS[kind["type"]], limits]))


def _default(value: Any, model: type[BaseModel]) -> str:
    if value is None:
        return "from the scan" if model is Settings else "from the file"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def presets() -> Iterator[str]:
    """List what each preset sets."""
    yield from _named(PRESETS | {"paper, in MRI": PAPER_MRI})


def tasks() -> Iterator[str]:
    """List what settings left open become for each task."""
    yield from _named(TASKS)


def _named(sets: dict[str, dict[str, Any]]) -> Iterator[str]:
    """List of named sets of values."""
    for name, fields in sets.items():
        values = ", ".join(f"`{key}={_plain(value)}`" for key, value in fields.items())
        yield f"- **{name}**: {values or 'the defaults above'}"


def command_line() -> Iterator[str]:
    """Help of all commands, by typer, a heading level down."""
    call = [sys.executable, "-m", "typer", "napari_d3ip.cli.main", "utils", "docs", "--name", "napari-d3ip"]
    text = subprocess.run(call, check=True, capture_output=True, encoding="utf-8").stdout
    text = re.sub(r"\*\*Commands\*\*:.*?(?=\n#|\Z)", "", text, flags=re.DOTALL)  # They are headings below.
    _, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    yield from sections


_RECORDS = Path(__file__).parents[1] / "research"
_RECORD = re.compile(
    r"---\nstatus: (?P<status>kept|rejected|open)\ndate: (?P<date>[\d-]{10})\nrevision: (?P<revision>.+)\n---\n"
    r"# (?P<title>.+)\n\n\*\*Question\.\*\* (?P<question>(?:.+\n)+)\n\*\*Decision\.\*\* (?P<decision>(?:.+\n)+)"
)


def read_record(path: Path) -> dict[str, str]:
    """Return status, date, revision, title, question and decision of a decision record.

    Raises
    ------
    ExtensionError
        If the page does not begin as a record does.
    """
    found = _RECORD.match(path.read_text(encoding="utf-8"))
    if found is None:
        raise ExtensionError(f"{path.name}: a record begins with status, date, revision, title, question, decision.")
    return {name: " ".join(text.split()) for name, text in found.groupdict().items()}


def records() -> Iterator[str]:
    """Table of the decision records in docs/research, a row a page."""
    yield "| record | status | date | question |"
    yield "|---|---|---|---|"
    for path in sorted(_RECORDS.glob("*.md")):
        if path.stem != "index":
            fields = read_record(path)
            link = f"[{fields['title']}]({path.name})"
            yield f"| {link} | {fields['status']} | {fields['date']} | {fields['question']} |"


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "settings": settings,
    "methods": methods,
    "presets": presets,
    "tasks": tasks,
    "reading options": reading_options,
    "corrections": corrections,
    "command line": command_line,
    "records": records,
}


def _fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = re.sub(r"<!-- generated: (.+?) -->", lambda found: "\n".join(PARTS[found[1]]()), source[0])
    if page.startswith("research/") and page != "research/index":
        fields = read_record(_RECORDS.parent / f"{page}.md")
        line = f"*{fields['status'].capitalize()}, {fields['date']}, revision {fields['revision']}.*"
        source[0] = re.sub(r"^(# .+)$", rf"\1\n\n{line}", source[0], count=1, flags=re.MULTILINE)


def _check_names(app: Sphinx, env: Any) -> None:
    """All public names must be in the reference."""
    import napari_d3ip

    documented = {entry[0] for entry in env.get_domain("py").get_objects()}
    missing = {f"napari_d3ip.{name}" for name in napari_d3ip.__all__} - documented
    if missing:
        raise ExtensionError(f"reference/python.md lacks {', '.join(sorted(missing))}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Fill in pages as they are read."""
    app.connect("source-read", _fill_in)
    app.connect("env-check-consistency", _check_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
