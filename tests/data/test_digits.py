"""The digits of scikit-learn, against its own loader."""

import numpy as np
from sklearn.datasets import load_digits

from substrate_jax import data


def test_digits_are_those_of_scikit_learn():
    theirs, ours = load_digits(), data.open_source("digits")
    assert ours.ids == data.open_source("sklearn:digits").ids
    np.testing.assert_array_equal(ours.labels, theirs.target)
    for row in (0, 1, 1796):
        ink = np.round(255 - theirs.images[row] * (255 / 16))
        np.testing.assert_array_equal(ours[row].image, np.stack([ink] * 3, axis=-1))
    assert np.bincount(ours.labels).min() == 174
    assert [ours.label_names[label] for label in ours.labels[:3]] == ["0", "1", "2"]
