"""A page as one self-contained HTML file.

The template, the style sheet and the script are files of their own in `templates/`; rendering puts
all three into the one file.
"""

import functools
from pathlib import Path

import jinja2

from substrate_jax.report.page import Page
from substrate_jax.report.text import number
from substrate_jax.report.values import plain

_TEMPLATES = Path(__file__).parent / "templates"


def render(page: Page) -> str:
    """The page as HTML.

    Example:
        >>> page = Page("A < B", "", [], [])
        >>> "<h1>A &lt; B</h1>" in render(page)
        True
    """
    return _environment().get_template("report.html").render(page=page)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "plain": plain}
    environment.globals["verbatim"] = _verbatim
    return environment


def _verbatim(file: str) -> str:
    """A file of the templates as it stands, for CSS and JavaScript are full of braces."""
    return (_TEMPLATES / file).read_text(encoding="utf-8")
