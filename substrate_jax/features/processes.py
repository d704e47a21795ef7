"""Processes of one run agree before they work together, and fail together.

Each process opens its images and reads its weights by itself, so one may have been given others:
an old copy of a folder, another revision of a checkpoint, other options. `given` says what a
process has, `exchange` brings together what all say, `agree` refuses what differs.

A process that waits for one that has raised would wait for ever. Whatever may fail in one process
alone runs in `attempt`, and the `exchange` after it raises in all.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from substrate_jax.data.modality import settings_of
from substrate_jax.data.sources import Source, digest
from substrate_jax.data.unreadable import Unreadable
from substrate_jax.features.protocol import Extractor
from substrate_jax.processes import exchange as exchange_values
from substrate_jax.version import __version__


def determinants(encoder: Extractor, source: Source, ids: str) -> dict[str, Any]:
    """What decides the rows of an encoder on a source; the store's key is a hash of it.

    The version stands for all code between an image and its features: rows of another are never
    read.

    Args:
      encoder: see `Extractor`.
      source: the images.
      ids: digest of their ids.
    """
    return {
        "substrate_jax": __version__,
        "encoder": encoder.spec.name,
        "encoder_fingerprint": encoder.fingerprint,
        "width": encoder.spec.width,
        "dtype": jnp.dtype(encoder.dtype).name,
        "preprocess": settings_of(encoder.spec.preprocess),
        "source_fingerprint": source.fingerprint,
        "ids": ids,
        "rows": len(source),
    }


def given(
    known: Mapping[str, Mapping[str, Any]], source: Source, ids: str, options: Sequence[Any]
) -> dict[str, Any]:
    """What a process was given, by the name that an error calls it.

    Args:
      known: encoder name -> `determinants`.
      source: the images.
      ids: digest of their ids.
      options: whatever else must be equal.
    """
    labels = b"" if source.labels is None else source.labels.tobytes()
    apart = dict.fromkeys(("substrate_jax", "source_fingerprint", "ids", "rows"))
    return {
        "version of substrate_jax": __version__,
        "source_fingerprint": source.fingerprint,
        "image ids": ids,
        "labels": digest(labels),
        "batch size and options": list(options),
        **{f"encoder {name}": digest(json.dumps({**k, **apart})) for name, k in known.items()},
    }


def some_images(source: Source) -> dict[str, str]:
    """Digests of the pixels, samples or text of the first, the middle and the last row."""
    found = {}
    for row in (0, len(source) // 2, len(source) - 1):
        try:
            item = source.read(row)
        except Unreadable:
            said = "unreadable"
        else:
            said = digest(*_parts(item))
        found[f"{source.modality} {source.ids[row]}"] = said
    return found


def _parts(item: Any) -> list[str | bytes]:
    """What an image, a sound or a text is made of."""
    if isinstance(item, str):
        return [item]
    pixels, *rate = item if isinstance(item, tuple) else [item]
    return [str(pixels.shape), pixels.tobytes(), *map(str, rate)]


def check_equal(said: Sequence[Mapping[str, Any]]) -> None:
    """Check what all processes have said; where it differs all raise the same.

    Raises:
      ValueError: naming the processes that differ from the first, and in what.

    Example:
      >>> check_equal([{"labels": "a", "image ids": "b"}, {"labels": "c", "image ids": "b"}])
      Traceback (most recent call last):
          ...
      ValueError: process 1 has other labels than process 0; give all the same images, weights ...
    """
    first, *others = said
    names = dict.fromkeys(name for one in said for name in one)
    differ = [name for name in names if any(one.get(name) != first.get(name) for one in others)]
    if differ:
        which = [str(process) for process, one in enumerate(others, 1) if one != first]
        verb = "has" if len(which) == 1 else "have"
        raise ValueError(
            f"process {', '.join(which)} {verb} other {', '.join(differ)} than process 0; give all "
            "the same images, weights and options"
        )


def agree(said: Sequence[Mapping[str, Any]], source: Source) -> str:
    """Check that all processes were given the same; the source's fingerprint in process 0.

    Where fingerprints of sources differ, `some_images` must agree.

    Args:
      said: `given` of every process.
      source: the images that this one has.

    Raises:
      ValueError: see `check_equal`.
    """
    check_equal([{**one, "source_fingerprint": None} for one in said])
    fingerprint = said[0]["source_fingerprint"]
    if any(one["source_fingerprint"] != fingerprint for one in said):
        check_equal(exchange(*attempt(some_images, source)))
    return fingerprint


def attempt(work: Callable, *arguments, **options) -> tuple[Any, Exception | None]:
    """What `work` returns, and the error it ends with; in a run of one process that is raised."""
    try:
        return work(*arguments, **options), None
    except Exception as error:
        if jax.process_count() == 1:
            raise
        return None, error


def exchange(value: Any, failure: Exception | None) -> list[Any]:
    """The JSON-like values of all processes, in their order; all must call it.

    Raises:
      ValueError: one of them has failed; all raise its error and its number.

    Example:
      >>> exchange(*attempt(len, "abc"))
      [3]
    """
    text = failure and (str(failure) if isinstance(failure, ValueError) else repr(failure))
    said = exchange_values({"value": value, "failure": text})
    for process, answer in enumerate(said):
        if answer["failure"] is not None:
            raise ValueError(f"{answer['failure']} (process {process})") from failure
    return [answer["value"] for answer in said]
