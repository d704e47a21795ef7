"""Blocks and words that the pages of several analyses share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from substrate_jax.report.page import Column, Table
from substrate_jax.report.tags import Tag, paradigm_tag

DISCRIMINATIVE = ("supervised", "self_supervised")


PAIR_KINDS = {
    "discriminative": Tag("D", "#0072b2", "two discriminative encoders (S or C)"),
    "mim": Tag("M", "#cc79a7", "two masked-reconstruction encoders"),
    "other": Tag("–", "#999999", "any other pair"),
}


METHODS = {"closed_form": "in closed form", "permutation": "by permutations"}


SKEWNESSES = {
    "exact": ", with the exact skewness",
    "gamma": ", with the skewness of a gamma law",
    None: "",
}


P_VALUES = {
    "closed_form": "chance of a CKA as high if the rows of one side are permuted",
    "permutation": "share of permutations of the rows with a CKA as high",
}


Thumbnails = Mapping[str, Sequence[UInt8[np.ndarray, "h w 3"]]]


def null_in_words(calibrated: Mapping[str, Any]) -> str:
    """How a calibration found its null.

    Example:
        >>> null_in_words({"method": "closed_form", "skewness": "exact"})
        'in closed form, with the exact skewness'
    """
    method = calibrated["method"]
    return METHODS.get(method, method) + SKEWNESSES[calibrated.get("skewness")]


def p_columns(calibrated: dict) -> dict[Column, Any]:
    """p, of which the page shows the logarithm where there is one: it does not underflow."""
    logarithm = calibrated.get("log10_p_value")
    found = {Column("p_value", "p", "p", shown=logarithm is None): calibrated["p_value"]}
    if logarithm is not None:
        found[Column("log10_p_value", "p", "log10_p")] = logarithm
    return found


def encoder_table(encoders: list[dict], tags: dict[str, Tag]) -> Table:
    """The encoders of a run, and where their weights are from."""
    rows = []
    for encoder in encoders:
        learning, digest = paradigm_tag(encoder["paradigm"]).meaning, encoder["sha256"]
        rows.append(encoder | {"learning": learning, "hash": digest[:12] if digest else None})
    columns = [
        Column("name", "Encoder"), Column("family", "Family"), Column("learning", "Paradigm"),
        Column("paradigm", "", shown=False), Column("width", "Width", "count"),
        Column("parameters", "Parameters", "count"), Column("source", "Weights"),
        Column("hash", "SHA-256"), Column("sha256", "", shown=False),
    ]  # fmt: skip
    caption = "Width is the number of features an image; the hash is that of the weights file."
    return Table("", caption, columns, rows, "encoders.csv", tags)
