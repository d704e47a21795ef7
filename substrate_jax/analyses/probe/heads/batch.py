"""What every head is fitted to: the labeled rows of all episodes, in sizes that programs share.

Compiling takes longer than most fits, so rows, features and classes are padded with zeros to a
size of a short list, mostly powers of two. A padded row has code -1 and no weight, a padded class
no row, a padded feature no variance. Arithmetic is in float64 whatever JAX is set to.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from substrate_jax.analyses.transferability.scores.inputs import (
    Function,
    checked_features,
    program,
    shared_size,
)
from substrate_jax.kernels.arithmetic import HIGHEST, divide

FEW_ENTRIES = 1 << 22  # of features; for no more, threads cost a program more than they bring


def head_program(function: Function) -> Function:
    """A `program` of the features first; where they are few it runs on one core.

    Fits at the same time, each of which starts threads, wait for each other.
    """
    whole = program(function)
    alone = program(function, xla_cpu_multi_thread_eigen=False)

    @functools.wraps(function)
    def run(x, *others):
        few = x.size <= FEW_ENTRIES and jax.default_backend() == "cpu"
        return (alone if few else whole)(x, *others)

    return run  # pyright: ignore[reportReturnType]


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Labeled rows of E episodes and the rows that all of them are judged on.

    Attributes:
        train: [E, N, D] features of the labeled rows, zeros beyond [E, n, d].
        codes: [E, N] class of each, -1 for rows that do not count.
        test: [M, D] features of the held-out rows, zeros beyond [m, d].
        rows: n.
        width: d.
        tested: m.
        classes: C.
    """

    train: Float64[np.ndarray, "E N D"]
    codes: Int[np.ndarray, "E N"]
    test: Float64[np.ndarray, "M D"]
    rows: int
    width: int
    tested: int
    classes: int

    @property
    def one_hot(self) -> Float64[np.ndarray, "E N K"]:
        """1 where a row has the class, in K >= C classes; a row that does not count is zero."""
        return np.eye(power(self.classes, 4))[self.codes] * (self.codes >= 0)[..., None]

    @property
    def counts(self) -> Int[np.ndarray, "E C"]:
        """Labeled rows of each class that count."""
        return self.one_hot.sum(axis=1)[:, : self.classes].astype(int)


def make_batch(
    features: Float[np.ndarray, "n d"],
    codes: Int[np.ndarray, " n"],
    train: Int[np.ndarray, "E n"],
    test: Int[np.ndarray, " m"],
) -> Batch:
    """The rows of episodes, gathered and padded.

    Args:
        features: of all rows.
        codes: class of each row, from 0.
        train: rows with labels of each episode, equally many.
        test: rows that all episodes are judged on.

    Raises:
        ValueError: features that are no finite matrix; another number of codes; an episode without
            labeled rows of one of the classes; one class only; no rows to judge on.

    Example:
        >>> batch = make_batch(np.eye(4), np.array([0, 1, 0, 1]), np.array([[0, 1]]), np.arange(4))
        >>> batch.train.shape, batch.codes[0, :3].tolist(), batch.test.shape, batch.counts.tolist()
        ((1, 32, 16), [0, 1, -1], (256, 16), [[1, 1]])
    """
    x = np.asarray(checked_features(features), np.float64)
    if codes.shape != (len(x),):
        raise ValueError(f"codes have shape {codes.shape} for {len(x)} rows: give one for each row")
    classes = int(codes.max()) + 1
    if classes < 2:
        raise ValueError("codes hold one class only: give two classes or more")
    if not len(test):
        raise ValueError("test has no rows: hold some out")
    episodes, rows = train.shape
    width = padded_width(x.shape[1])
    size = power(rows, 32) if rows <= 128 else shared_size(rows, 64)
    gathered = np.zeros((episodes, size, width))
    gathered[:, :rows, : x.shape[1]] = x[train]
    labels = np.full((episodes, size), -1)
    labels[:, :rows] = codes[train]
    judged = np.zeros((power(len(test), 256), width))
    judged[: len(test), : x.shape[1]] = x[test]
    batch = Batch(gathered, labels, judged, rows, x.shape[1], len(test), classes)
    if not batch.counts.all():
        episode, code = np.argwhere(batch.counts == 0)[0]
        raise ValueError(
            f"train has no row of class {code} in episode {episode}: label one of each class"
        )
    return batch


def padded_width(width: int) -> int:
    """Features of a batch that has so many: a power of two up to 512, closer above.

    Example:
        >>> [padded_width(width) for width in (5, 16, 96, 192, 384, 768, 2840)]
        [16, 16, 128, 256, 512, 768, 3072]
    """
    return power(width, 16) if width <= 512 else shared_size(width, 256)


def power(size: int, least: int) -> int:
    """The smallest of least, 2 least, 4 least, ... that holds `size`.

    Example:
        >>> power(16, 16), power(17, 16), power(65, 16)
        (16, 32, 128)
    """
    return least * 2 ** max(0, (-(-size // least) - 1).bit_length())


def mean_of(x: Float64[Array, "E N D"], weight: Float64[Array, "E N"]) -> Float64[Array, "E D"]:
    """Mean of the rows that count, within a program."""
    total = jnp.einsum("end,en->ed", x, weight, precision=HIGHEST)
    return divide(total, jnp.sum(weight, axis=1)[:, None])


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """Class scores x W + b of S strengths in E episodes, in padded sizes.

    Attributes:
        weight: [S, E, D, K].
        bias: [S, E, K].
        classes: C, those of the K that are classes.
        unsolved: fits that did not reach their tolerance; 0 for closed forms.
    """

    weight: Float64[Array | np.ndarray, "S E D K"]
    bias: Float64[Array | np.ndarray, "S E K"]
    classes: int
    unsolved: int = 0

    def of_test(self, batch: Batch) -> Float64[np.ndarray, "S E m C"]:
        """Scores of the held-out rows."""
        weight, bias = self._classes(batch.width)
        strengths, episodes, width, classes = weight.shape
        # One product for all of them, on the host: a program would have to be compiled for it.
        flat = np.moveaxis(weight, 2, 0).reshape(width, -1)
        scores = batch.test[: batch.tested, :width] @ flat
        scores = scores.reshape(-1, strengths, episodes, classes).transpose(1, 2, 0, 3)
        return scores + bias[:, :, None]

    def of_train(self, batch: Batch) -> Float64[np.ndarray, "S E N C"]:
        """Scores of each episode's own rows, padded ones too."""
        weight, bias = self._classes(batch.width)
        strengths, episodes, width, classes = weight.shape
        flat = weight.transpose(1, 2, 0, 3).reshape(episodes, width, -1)
        scores = batch.train[:, :, :width] @ flat
        scores = scores.reshape(episodes, -1, strengths, classes).transpose(2, 0, 1, 3)
        return scores + bias[:, :, None]

    def of_strengths(self, chosen: Int[np.ndarray, " E"]) -> "Linear":
        """The scores of one strength for each episode."""
        each = np.arange(len(chosen))
        weight, bias = (np.asarray(x)[chosen, each][None] for x in (self.weight, self.bias))
        return dataclasses.replace(self, weight=weight, bias=bias)

    def _classes(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights and biases without padding."""
        weight, bias = np.asarray(self.weight), np.asarray(self.bias)
        return weight[:, :, :width, : self.classes], bias[:, :, : self.classes]
