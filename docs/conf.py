"""Sphinx configuration: ``sphinx-build -W docs build/site``, or ``python -m tox -e docs``. Needs no network."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "napari-d3ip"
author = "napari-d3ip developers"
copyright = author
version = release = version_of(project).split("+")[0]

extensions = ["flowchart", "formulas", "generated", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_extensions"]
default_role = "py:obj"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # The docstrings say it, with shapes and units.
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = project
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
_WITHOUT_SIDEBAR = (
    *("index", "install", "examples/index", "method"),
    *("architecture", "glossary", "results", "studies"),
)
html_sidebars = {page: [] for page in _WITHOUT_SIDEBAR}
html_theme_options = {
    "header_links_before_dropdown": 7,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": [],
}
