"""Handwritten digits with their true labels, from inside scikit-learn's wheel: `sklearn:digits`.

1,797 digits of 13 writers, 8 x 8 pixels with 17 levels of ink, drawn dark on white: the test set of
the UCI "Optical Recognition of Handwritten Digits". For a first training without a download.

Cost: a tenth of a second to read the file, once per process.

Not guaranteed: that a random split keeps writers apart; the file does not say who wrote a digit.

References: E. Alpaydin and C. Kaynak, "Cascading Classifiers", Kybernetika 34(4), 1998; CC BY 4.0.
"""

import functools
import gzip

import numpy as np
from jaxtyping import Int64, UInt8

from substrate_jax.data.sample import packaged_file
from substrate_jax.data.sources import Source, digest


def open_digits() -> Source:
    """All digits, in the file's order, under ids "digit/0000" and on.

    Raises:
      ValueError: the wheel lacks the file.

    Example:
      >>> source = open_digits()
      >>> len(source), source[3].image.shape, source[3].label, source.label_names[3]
      (1797, (8, 8, 3), 3, '3')
    """
    images, labels = _digits()
    ids = tuple(f"digit/{row:04d}" for row in range(len(images)))
    return Source(
        name="sklearn:digits",
        ids=ids,
        labels=labels,
        fingerprint=digest("sklearn:digits", images.tobytes(), labels.tobytes()),
        read=lambda row: np.repeat(images[row][:, :, None], 3, axis=2),
        label_names=tuple(map(str, range(10))),
    )


@functools.cache
def _digits() -> tuple[UInt8[np.ndarray, "n 8 8"], Int64[np.ndarray, " n"]]:
    with gzip.open(packaged_file("sklearn", "datasets/data/digits.csv.gz")) as rows:
        table = np.loadtxt(rows, delimiter=",", dtype=np.uint8)
    gray = np.round(255 - table[:, :-1] * (255 / 16)).astype(np.uint8)
    return gray.reshape(-1, 8, 8), table[:, -1].astype(np.int64)
