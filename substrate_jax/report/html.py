"""A page as one self-contained HTML file.

The template, the style and the script are files of their own in `templates/`; rendering puts them
into one file that needs nothing else. Its content security policy forbids every request, so that a
forgotten link would stay dead instead of calling out. The template escapes all text.
"""

import functools
from pathlib import Path

import jinja2

from substrate_jax.report.page import Page
from substrate_jax.report.text import number, slugs
from substrate_jax.report.values import plain

_TEMPLATES = Path(__file__).parent / "templates"


def render(page: Page) -> str:
    """The page as HTML.

    Args:
        page: prose, figures, tables and thumbnails.

    Returns:
        A whole document.

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
    environment.filters |= {"number": number, "plain": plain, "slugs": slugs}
    environment.globals["verbatim"] = _verbatim
    return environment


def _verbatim(file: str) -> str:
    """A file of the templates as it stands, for CSS and JavaScript are full of braces."""
    return (_TEMPLATES / file).read_text(encoding="utf-8")
