"""The paper's head: a linear layer without bias, trained by Adam on class-balanced batches.

Cross-entropy of softmax(x W), 200 epochs, learning rate 1e-3, weight decay 1e-4 added to the
gradient as Adam's own penalty (not decoupled), beta = (.9, .999), eps = 1e-8. An epoch passes once
through the labeled rows of every class in a random order; each batch has equally many of each, and
the last one may be smaller.

Read by us, where arXiv:2606.07882 says nothing: batches of up to 64 rows; the weights start at 0
(the problem is convex, so a start only costs time, but 200 epochs of few rows are far from the
end); features are used as they are given, so an input of another scale is another head; no
schedule.

Cost: 200 epochs x 6 n d C flops per episode, in steps that must follow one another.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from substrate_jax.analyses.probe.heads.batch import Batch, Linear, head_program, power
from substrate_jax.kernels.arithmetic import HIGHEST

EPOCHS = 200
RATE = 1e-3
DECAY = 1e-4
ROWS = 64  # of a batch, at most
_STEPS = 256  # of a program at least; the next has room for four times as many
_MOMENTUM, _SQUARES, _EPSILON = 0.9, 0.999, 1e-8


def adam(
    batch: Batch,
    *,
    epochs: int = EPOCHS,
    rate: float = RATE,
    decay: float = DECAY,
    rows: int = ROWS,
    seed: int = 0,
) -> Linear:
    """Linear layers of all episodes after so many epochs, as scores of one strength.

    Args:
        batch: labeled rows, equally many of each class.
        epochs: passes through them.
        rate: Adam's learning rate.
        decay: of weights, added to the gradient.
        rows: of a batch at most; one of each class is always in it.
        seed: of the order of rows.

    Returns:
        Log probabilities up to a constant of each row.

    Raises:
        ValueError: no epochs; classes with unequal numbers of labels.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> x, codes = np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1])
        >>> batch = make_batch(x, codes, np.array([[0, 1]]), np.array([2, 3]))
        >>> adam(batch, epochs=1).weight[0, 0, 0, :2].round(6).tolist()  # Adam's first step
        [-0.001, 0.001]

    References:
      D. Kingma, J. Ba (2015), "Adam", arXiv:1412.6980.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}: use 200, say")
    index = balanced_batches(batch, epochs=epochs, rows=rows, seed=seed)
    steps = len(index)
    padded = np.full((_STEPS * 4 ** _fours(steps), *index.shape[1:]), -1, np.int32)
    padded[:steps] = index
    options = np.array([rate, decay])
    weight = np.asarray(_adam(batch.train, batch.one_hot, padded, np.int32(steps), options))
    return Linear(weight, np.zeros_like(weight[:, :, 0]), batch.classes)


def balanced_batches(
    batch: Batch, *, epochs: int, rows: int, seed: int
) -> Int[np.ndarray, "steps E B"]:
    """Rows of each step, -1 where a batch is not full; orders differ by episode and epoch.

    Raises:
        ValueError: classes with unequal numbers of labels.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> codes = np.array([0, 0, 0, 1, 1, 1])
        >>> batch = make_batch(np.eye(6), codes, np.arange(6)[None], np.arange(6))
        >>> found = balanced_batches(batch, epochs=1, rows=4, seed=0)
        >>> np.sort(found[:, 0, :4], axis=1).shape, sorted(found[found >= 0].tolist())
        ((2, 4), [0, 1, 2, 3, 4, 5])
    """
    if (batch.counts != batch.counts[0, 0]).any():
        raise ValueError(
            f"balanced batches need equally many labels of each class, got {batch.counts.tolist()}:"
            " draw as many of each"
        )
    codes = batch.codes.astype(np.int64)
    return _orders(codes.tobytes(), codes.shape, batch.classes, epochs, rows, seed)


@functools.lru_cache(maxsize=2)  # one input after the other is fitted to the same rows
def _orders(
    codes: bytes, shape: tuple[int, int], classes: int, epochs: int, rows: int, seed: int
) -> Int[np.ndarray, "steps E B"]:
    """What `balanced_batches` gives, from the bytes of int64 codes [E, N]; not to be written to."""
    each_codes = np.frombuffer(codes, np.int64).reshape(shape)
    shots = int((each_codes[0] == 0).sum())
    each = min(max(1, rows // classes), shots)
    parts = -(-shots // each)
    size = power(each * classes, 16)
    index = np.full((epochs, parts, len(each_codes), size), -1, np.int32)
    for episode, own in enumerate(each_codes):
        rng = np.random.default_rng((seed, episode))
        members = np.stack([np.flatnonzero(own == code) for code in range(classes)])
        orders = rng.permuted(np.tile(members, (epochs, 1, 1)), axis=2)  # [epochs, C, shots]
        for part in range(parts):
            taken = orders[:, :, part * each : (part + 1) * each].reshape(epochs, -1)
            index[:, part, episode, : taken.shape[1]] = taken
    index.setflags(write=False)
    return index.reshape(-1, *index.shape[2:])


def _fours(steps: int) -> int:
    """How often 256 steps are to be made four times as many to hold so many."""
    return next(power for power in range(32) if _STEPS * 4**power >= steps)


@head_program
def _adam(x, one_hot, index, steps, options):
    rate, decay = options
    exists = jnp.sum(one_hot, axis=1) > 0  # [E, K]
    episode = jnp.arange(x.shape[0])[:, None]

    def step(number, state):
        w, first, second = state
        chosen = index[number]
        real = (chosen >= 0).astype(x.dtype)
        rows, classes = x[episode, chosen], one_hot[episode, chosen]
        scores = jnp.einsum("ebd,ekd->ebk", rows, w, precision=HIGHEST)
        shares = jax.nn.softmax(jnp.where(exists[:, None], scores, -jnp.inf), axis=-1)
        wrong = (shares - classes) * (real / jnp.sum(real, axis=1, keepdims=True))[..., None]
        gradient = jnp.einsum("ebk,ebd->ekd", wrong, rows, precision=HIGHEST) + decay * w
        first = _MOMENTUM * first + (1 - _MOMENTUM) * gradient
        second = _SQUARES * second + (1 - _SQUARES) * gradient**2
        passed = number.astype(x.dtype) + 1
        mean = first / (1 - _MOMENTUM**passed)
        size = jnp.sqrt(second / (1 - _SQUARES**passed)) + _EPSILON
        return w - rate * mean / size, first, second

    # Features innermost: products with few classes take a fifth less time than the other way round.
    zero = jnp.zeros((x.shape[0], one_hot.shape[2], x.shape[2]), x.dtype)
    weight = jax.lax.fori_loop(0, steps, step, (zero, zero, zero))[0]
    return jnp.swapaxes(weight, 1, 2)[None]
