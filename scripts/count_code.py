"""Count what makes code hard to read, for a table before and after a change: ``python scripts/count_code.py``.

Files and lines of every room (package directly below the package) and of the tests; functions of more than 60 lines or
with eight or more arguments (``self`` and ``cls`` aside); functions of a cyclomatic complexity over 10 (ruff's C901);
circles of imports, those inside functions counted, of modules and of rooms; modules at the top; files over 400 lines.
Imports of the package's own ``__init__``, which loads its names when they are used, are not counted.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grimp
import numpy as np
from scipy.sparse.csgraph import connected_components

LONG_FUNCTION, MANY_ARGUMENTS, COMPLEX, LONG_FILE = 60, 8, 10, 400
TOP = "(top)"


def modules(folder: Path) -> list[Path]:
    """Return the Python files below a folder."""
    return sorted(folder.rglob("*.py"))


def lines_of(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def rooms(folder: Path) -> dict[str, dict[str, int]]:
    """Return the number of files and lines of each folder below ``folder``, and of the files in it."""
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for path in modules(folder):
        parts = path.relative_to(folder).parts
        room = parts[0] if len(parts) > 1 else TOP
        files[room] += 1
        lines[room] += lines_of(path)
    return {room: {"files": files[room], "lines": lines[room]} for room in sorted(files)}


def _functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Yield name, node, and whether it is a method, of every function."""
    for node in ast.iter_child_nodes(tree):
        inner = outer
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{outer}{node.name}."
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inner[:-1], node, isinstance(tree, ast.ClassDef)
        yield from _functions(node, inner)


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef, is_method: bool) -> int:
    """Return how many arguments a function takes."""
    given = node.args
    count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) + bool(given.vararg) + bool(given.kwarg)
    is_static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list)
    return count - (is_method and not is_static)


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines from ``def`` to the end, without the docstring."""
    docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    described = 0 if docstring is None else (docstring.end_lineno or 0) - docstring.lineno + 1
    return (node.end_lineno or 0) - node.lineno + 1 - described


def functions(package: Path) -> dict[str, Any]:
    """Return the number of functions, and names and figures of the long ones and of those with many arguments."""
    count, long, crowded = 0, {}, {}
    for path in modules(package):
        where = path.relative_to(package).as_posix()
        for name, node, is_method in _functions(ast.parse(path.read_text(encoding="utf-8"))):
            count += 1
            if (length := _length(node)) > LONG_FUNCTION:
                long[f"{where}:{name}"] = length
            if (arguments := _arguments(node, is_method)) >= MANY_ARGUMENTS:
                crowded[f"{where}:{name}"] = arguments
    return {"functions": count, "long_functions": long, "many_arguments": crowded}


def complex_functions(package: Path) -> dict[str, str]:
    """Return what ruff says of functions whose cyclomatic complexity is over 10.

    Raises
    ------
    subprocess.CalledProcessError
        If ruff cannot be run.
    """
    limit = f"lint.mccabe.max-complexity={COMPLEX}"
    command = [
        "ruff",
        "check",
        "--isolated",
        "--select=C901",
        "--config",
        limit,
        "--output-format=json",
        "--exit-zero",
    ]
    found = subprocess.run(
        [sys.executable, "-m", *command, str(package)], check=True, capture_output=True, text=True
    ).stdout
    return {
        f"{Path(each['filename']).relative_to(package.resolve()).as_posix()}:{each['location']['row']}": each[
            "message"
        ]
        for each in json.loads(found)
    }


def imports(package: Path) -> dict[str, set[str]]:
    """Return which modules of a package each one imports, at its top, inside functions, or for types alone."""
    sys.path.insert(0, str(package.parent))
    try:
        graph = grimp.build_graph(package.name, cache_dir=None)
    finally:
        sys.path.remove(str(package.parent))
    return {
        module: {imported for imported in graph.find_modules_directly_imported_by(module) if imported != package.name}
        for module in graph.modules
        if module != package.name
    }


def circles(imported: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    names = sorted(imported)
    place = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), bool)
    for name, others in imported.items():
        for other in others:
            matrix[place[name], place[other]] = True
    _, labels = connected_components(matrix, connection="strong")
    groups = [[names[number] for number in np.flatnonzero(labels == label)] for label in np.unique(labels)]
    return [group for group in groups if len(group) > 1]


def of_rooms(imported: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return which rooms each room imports."""

    def room(module: str) -> str:
        return module.split(".")[1]

    found: dict[str, set[str]] = {room(module): set() for module in imported}
    for module, others in imported.items():
        found[room(module)] |= {room(other) for other in others} - {room(module)}
    return found


def count(package: Path, tests: Path) -> dict[str, Any]:
    """Return all figures of a package and its tests, JSON values only."""
    imported = imports(package)
    source, tested = rooms(package), rooms(tests)
    top = [path.name for path in modules(package) if path.parent == package]
    lengths = {path.relative_to(package).as_posix(): lines_of(path) for path in modules(package)}
    return {
        "src": source,
        "tests": tested,
        "src_lines": sum(room["lines"] for room in source.values()),
        "test_lines": sum(room["lines"] for room in tested.values()),
        "src_files": len(lengths),
        "top_modules": top,
        "long_files": {name: lines for name, lines in lengths.items() if lines > LONG_FILE},
        **functions(package),
        "complex_functions": complex_functions(package),
        "module_circles": circles(imported),
        "room_circles": circles(of_rooms(imported)),
    }


def _listed(names: Iterable[str] | dict[str, Any]) -> str:
    """Return names in one cell, with their figures if there are."""
    parts = [f"{name} ({value})" for name, value in names.items()] if isinstance(names, dict) else list(names)
    return ", ".join(parts).replace("|", "\\|") or "–"


def as_markdown(found: dict[str, Any]) -> str:
    """Return the figures as two tables."""
    rows = ["| room | files | lines |", "|---|---|---|"]
    for part in ("src", "tests"):
        rows += [f"| {part}/{room} | {each['files']} | {each['lines']} |" for room, each in found[part].items()]
    rows += ["", "| what | number | which |", "|---|---|---|"]
    rows += [f"| lines of src | {found['src_lines']} | in {found['src_files']} files |"]
    rows += [f"| lines of tests | {found['test_lines']} | |", f"| functions | {found['functions']} | |"]
    titles = {
        "top_modules": "modules at the top",
        "long_files": f"files over {LONG_FILE} lines",
        "long_functions": f"functions over {LONG_FUNCTION} lines without docstring",
        "many_arguments": f"functions with {MANY_ARGUMENTS} or more arguments",
        "complex_functions": f"functions of complexity over {COMPLEX}",
    }
    rows += [f"| {title} | {len(found[key])} | {_listed(found[key])} |" for key, title in titles.items()]
    for key, title in (("module_circles", "import circles of modules"), ("room_circles", "import circles of rooms")):
        rows.append(f"| {title} | {len(found[key])} | {'; '.join(_listed(group) for group in found[key]) or '–'} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    """Print the figures."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=root / "src" / "napari_d3ip", help="folder of the package")
    parser.add_argument("--tests", type=Path, default=root / "tests", help="folder of its tests")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    found = count(given.package.resolve(), given.tests.resolve())
    print(json.dumps(found, indent=1) if given.json else as_markdown(found))


if __name__ == "__main__":
    main()
