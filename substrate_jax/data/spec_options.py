"""Specs of sources taken apart: the place, its split, and options, one syntax for every kind.

    KIND:PLACE[:split][?key=value&key=value]

In a value `%26` stands for "&" and `%25` for "%", as in a URL. A path that exists as it is typed is
that path, whatever question marks and colons it holds.
"""

import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence

from substrate_jax.data.paths import readable

NONE = "none"  # as a label: none wanted
_QUERY = re.compile(r"\?([a-z]+=[^?]*)$")


def split_options(text: str, allowed: Sequence[str], what: str) -> tuple[str, dict[str, str]]:
    """A path or pattern, and the options after it.

    Args:
      text: what follows the kind.
      allowed: names of the options that the kind has.
      what: the spec, for messages.

    Raises:
      ValueError: an option of another name, without a value, or given twice.

    Example:
      >>> split_options("a.h5?image=day/pixels&label=none", ("image", "label"), "h5:a.h5")
      ('a.h5', {'image': 'day/pixels', 'label': 'none'})
      >>> split_options("part-0?.tar", ("image",), "wds:part-0?.tar")
      ('part-0?.tar', {})
    """
    found = _QUERY.search(text)
    if found is None or exists(text):
        return text, {}
    return text[: found.start()], parse_options(found[1], allowed, what)


def parse_options(query: str, allowed: Sequence[str], what: str) -> dict[str, str]:
    """Options by name.

    Raises:
      ValueError: as `split_options`.

    Example:
      >>> parse_options("image=a%26b", ("image",), "h5:x?image=a%26b")
      {'image': 'a&b'}
    """
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in allowed or not value:
            forms = "&".join(f"{name}={name.upper()}" for name in allowed)
            hint = f"give ?{forms}" if forms else "this kind of source has no options"
            raise ValueError(f"{readable(what)}: {part!r} is unknown; {hint}")
        if key in options:
            raise ValueError(f"{readable(what)}: {key}= is given twice; give it once")
        options[key] = urllib.parse.unquote(value, errors="surrogateescape")
    return options


def query_of(options: Mapping[str, str | None]) -> str:
    """Options as they are typed, with their question mark; those that are None left out.

    Example:
      >>> query_of({"image": "a&b", "label": None})
      '?image=a%26b'
    """
    parts = [
        f"{key}={value.replace('%', '%25').replace('&', '%26')}"
        for key, value in options.items()
        if value
    ]
    return f"?{'&'.join(parts)}" if parts else ""


def split_place(text: str) -> tuple[str, str | None]:
    """A path and the split after its last colons; None where the whole is the path.

    Example:
      >>> split_place("/:train[:10%]")
      ('/', 'train[:10%]')
      >>> split_place("/no such folder:train")
      ('/no such folder:train', None)
    """
    if exists(text):
        return text, None
    for colon in reversed([at for at, letter in enumerate(text) if letter == ":"]):
        if exists(text[:colon]):
            return text[:colon], text[colon + 1 :] or None
    return text, None


def exists(text: str) -> bool:
    """Whether something lies at a path as a user types it; False for what cannot be one."""
    try:
        return os.path.lexists(os.path.expanduser(text))
    except (OSError, ValueError):
        return False
