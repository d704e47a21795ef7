"""Whether a kernel of the table is right, and what it says when it refuses.

A tolerance is that of a backward stable sum: the oracle may move as far as it does when its input
is moved by `helpers.tolerance` of what the kernel measures from, and each entry be off by that
share of the largest.
"""

import functools
import inspect
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from substrate_jax import kernels
from substrate_jax.kernels.alignment import hsic
from tests import helpers
from tests.kernels.stress import cells
from tests.kernels.stress.case import FEW
from tests.kernels.stress.table import CASES

DRAWS = 3
TINY = float(np.finfo(np.float32).tiny)  # what is less may be 0


@functools.cache
def compiled(name):
    return jax.jit(CASES[name].run)


def words_of(name):
    """The docstrings of the kernel, of its methods, of its module and of `hsic`."""
    thing = getattr(kernels, name.split()[0])
    methods = [m for key, m in vars(thing).items() if callable(m)] if inspect.isclass(thing) else []
    told = [thing, *methods, sys.modules[thing.__module__], hsic]
    return " ".join(" ".join((one.__doc__ or "").split()) for one in told)


def stressed(name, cell):
    """The encoders of a cell as the kernel gets them."""
    case = CASES[name]
    blocks = cells.blocks(cell)
    blocks = [x[FEW] for x in blocks] if case.few else blocks
    return [case.prepare(x).astype(x.dtype) for x in blocks]


def leaves(arrays):
    return [np.asarray(a, np.float64) for a in arrays]


def wrong(name, blocks, run, cell=""):
    """What is wrong with what `run` gives, in words; empty if nothing is."""
    case, exact = CASES[name], leaves(blocks)
    share = helpers.tolerance(sum(blocks[0].shape))
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracles divide by 0
        got = leaves(case.view(run([jnp.asarray(x) for x in blocks]), exact))
        want = leaves(case.oracle(exact))
        near = [
            [cells.nearby(x, case.about, rng, share) if np.isfinite(x).all() else x for x in exact]
            for _ in range(DRAWS)
        ]
        moved = [leaves(case.oracle(x)) for x in near]
        moved += [leaves(other(exact)) for other in case.others]
        share *= case.condition(exact)
    found = []
    for number, (g, w) in enumerate(zip(got, want, strict=True)):
        with np.errstate(all="ignore"):
            w = np.where(np.abs(w) > np.finfo(np.float32).max, np.sign(w) * np.inf, w)
            size = max(np.abs(w[np.isfinite(w)]).max(initial=0), case.unit)
            off = np.max([np.nan_to_num(np.abs(m[number] - w)) for m in moved], axis=0)
            limit = share * size + off + TINY
            right = (g == w) | (np.isnan(g) & np.isnan(w)) | (np.abs(g - w) <= limit)
        if cell in case.nan:
            assert case.nan[cell] in words_of(name), cell
            right |= np.isnan(g)
        if cell in case.loose:
            assert case.loose[cell] in words_of(name), cell
            right |= (np.abs(g) <= 1 + share) & np.isfinite(g)
        if np.isnan(w).any():
            assert "NaN" in words_of(name), cell
        if g.shape != w.shape or not right.all():
            at = np.unravel_index(np.argmin(right), right.shape)
            at = tuple(map(int, at))
            limit = np.broadcast_to(limit, right.shape)[at]
            found.append(f"output {number} at {at} is {g[at]}, not {w[at]} within {limit:.1g}")
    return "; ".join(found)


def check_refusal(name, cell, call):
    """Whether `call` raises a ValueError of one line with the argument and the value."""
    try:
        jax.eval_shape(call)
    except ValueError as error:
        said = str(error)
        arguments = inspect.signature(getattr(kernels, name.split()[0])).parameters
        words = [*arguments, "blocks", "batch", "rows", "domain", "features"]
        named = any(word in said for word in words)
        assert named, f"{name}, {cell}: {said}"
        assert "\n" not in said, f"{name}, {cell}: {said}"
        assert "got" in said, f"{name}, {cell}: {said}"
        return True
    return False
