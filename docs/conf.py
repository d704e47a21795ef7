"""The documentation as a site: these pages, and the docstrings of all public names.

python -m sphinx -W --keep-going docs docs/_build
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from substrate_jax import __version__
from substrate_jax.experiments.cli.main import commands

DOCS = Path(__file__).parent

project = "substrate_jax"
release = version = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"substrate_jax {version}"
html_show_copyright = False

default_role = "py:obj"  # docstrings write `name`; a link where the name is documented
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds of a cell, on a busy machine
os.environ |= {"TQDM_DISABLE": "1", "JAX_PLATFORMS": "cpu"}


def write_commands(app) -> None:
    """A page of what every command prints for --help, grouped as it is there."""
    lines = ["# Commands and their flags", ""]
    for name in commands():
        module = f"experiments.{name}"
        text = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            cwd=DOCS.parent,
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines += [f"## {name}", "", "```text", text.strip(), "```", ""]
    page = DOCS / "reference" / "commands.md"
    text = "\n".join(lines)
    if not page.is_file() or page.read_text() != text:
        page.write_text(text)


def plain_text(app, what, name, obj, options, lines) -> None:
    """Formulas in docstrings are plain text, where `*` and `|` mean themselves."""
    inside = False  # a doctest, or what it prints
    for i, line in enumerate(lines):
        inside = line.lstrip().startswith(">>>") or (inside and bool(line.strip()))
        if not inside:
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def within_the_site(app, docname, source) -> None:
    """Links to files of the repository that are no pages become their names."""
    if "/" not in docname:
        source[0] = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", source[0])


def setup(app) -> None:
    """Sphinx calls this."""
    app.connect("builder-inited", write_commands)
    app.connect("source-read", within_the_site)
    app.connect("autodoc-process-docstring", plain_text, priority=400)  # before napoleon's 500
