"""Blocks and words that the pages of several analyses share."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from substrate_jax.report.page import Column, Table
from substrate_jax.report.run import EncoderRecord, ImageSet, Run
from substrate_jax.report.tags import Tag, paradigm_tag
from substrate_jax.report.text import counted

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
MINI_PANEL = (
    "The mini panel's networks are small and were trained on 32 × 32 images. They stand in for the "
    "large ones to show the method, and say nothing about them."
)

Thumbnails = Mapping[str, Sequence[UInt8[np.ndarray, "_ _ 3"]]]


def null_in_words(method: str, skewness: str | None) -> str:
    """How a calibration found its null.

    Example:
        >>> null_in_words("closed_form", "exact")
        'in closed form, with the exact skewness'
    """
    return METHODS.get(method, method) + SKEWNESSES[skewness]


def p_columns(p_value: np.ndarray, log10_p_value: np.ndarray) -> dict[Column, np.ndarray]:
    """p in the CSV, and on the page by its logarithm, which does not underflow."""
    return {
        Column("p_value", "p", "p", shown=False): p_value,
        Column("log10_p_value", "p", "log10_p"): log10_p_value,
    }


def encoder_tables(run: Run) -> list[Table]:
    """The encoders of a run, and the files that features were read from."""
    return [encoder_table(run.encoders), *([_file_table(run)] if run.files else [])]


def _file_table(run: Run) -> Table:
    rows = [
        dataclasses.asdict(file)
        | {"array": " × ".join(map(str, file.shape)), "hash": file.sha256[:12]}
        for file in run.files or ()
    ]
    columns = [
        Column("encoder", "Encoder"),
        Column("domain", "Domain"),
        Column("path", "File"),
        Column("array", "Array"),
        Column("dtype", "Numbers"),
        Column("pool", "Pooled by"),
        Column("hash", "SHA-256"),
        Column("sha256", "", shown=False),
    ]
    caption = "Features made elsewhere: rows by features, converted to float32."
    return Table(
        "Files of features", caption, columns, rows, "files.csv", encoder_tags(run.encoders)
    )


def encoder_table(encoders: Sequence[EncoderRecord]) -> Table:
    """The encoders of a run, and where their weights are from."""
    rows = [
        dataclasses.asdict(encoder)
        | {
            "learning": paradigm_tag(encoder.paradigm).meaning,
            "hash": encoder.sha256[:12] if encoder.sha256 else None,
        }
        for encoder in encoders
    ]
    columns = [
        Column("name", "Encoder"),
        Column("family", "Family"),
        Column("learning", "Paradigm"),
        Column("paradigm", "", shown=False),
        Column("width", "Width", "count"),
        Column("parameters", "Parameters", "count"),
        Column("source", "Weights"),
        Column("hash", "SHA-256"),
        Column("sha256", "", shown=False),
    ]
    caption = "Width is the number of features per row; the hash is that of the weights file."
    return Table("", caption, columns, rows, "encoders.csv", encoder_tags(encoders))


def encoder_tags(encoders: Sequence[EncoderRecord]) -> dict[str, Tag]:
    """Name -> mark of its paradigm."""
    return {encoder.name: paradigm_tag(encoder.paradigm) for encoder in encoders}


def image_caveats(
    domains: Mapping[str, tuple[ImageSet, int]], of_samples: str, of_others: str
) -> Iterator[str]:
    """What images that are not independent do, as far as it applies.

    Args:
        domains: name -> its images and how many were read.
        of_samples: the end of a sentence about crops of the same pictures.
        of_others: a paragraph about images from elsewhere.
    """
    samples = {n: d for n, d in domains.items() if d[0].source.startswith("sample:")}
    if samples:
        known = [
            f"{name}: {n} of {images.pictures}"
            for name, (images, n) in samples.items()
            if images.pictures is not None
        ]
        cut = f" (number of crops, and of pictures: {'; '.join(known)})" if known else ""
        yield f"Sample domains are crops of few pictures{cut}. {of_samples}"
    if len(samples) < len(domains):
        yield of_others


def mini_panel_caveat(encoders: Sequence[EncoderRecord]) -> Iterator[str]:
    """What small stand-ins cannot say, if there are any."""
    if any(encoder.name.startswith("mini_") for encoder in encoders):
        yield MINI_PANEL


def images_in_words(images: ImageSet, n: int) -> str:
    """Description, number, origin and fingerprint of a domain's images, as one paragraph."""
    origin = ""
    if images.pictures is not None:
        sample = images.source.startswith("sample:")
        words = ("picture",) if sample else ("class or picture", "classes or pictures")
        origin = f" from {counted(images.pictures, *words)}"
    what = "row" if images.source == "files" else images.modality
    return (
        f"{images.description} {counted(n, what)}{origin}. Source {images.source}, fingerprint "
        f"{images.fingerprint[:12]}."
    ).strip()
