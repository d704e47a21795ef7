"""Checkpoints as training scripts leave them: keys with a prefix, several copies, odd values.

    module.   model.   _orig_mod.   state_dict.    left by wrappers around the network: taken off
    ema.   model_ema.   ema_model.   ...           an averaged copy: taken if it is the only one
    backbone.   encoder_q.   ...                   any other: refused, with the prefix to take off

Two copies of the weights under different prefixes are refused: which one is meant is not to be
guessed. So are values that no training leaves: other types than floating point, numbers that are
not finite, variances below zero.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from substrate_jax.data.paths import first_of

_WRAPPERS = frozenset({"module", "model", "_orig_mod", "state_dict"})
_AVERAGED = frozenset(
    {
        "ema",
        "ema_model",
        "ema_module",
        "ema_state_dict",
        "model_ema",
        "module_ema",
        "state_dict_ema",
        "averaged_model",
    }
)
# What averaging writes beside the weights, a number each.
_COUNTERS = frozenset({"n_averaged", "step", "initted", "num_updates", "decay"})
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_VARIANCE = "running_var"


def unwrapped(arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """The arrays without the prefixes of wrappers.

    Args:
        arrays: a checkpoint.
        source: what to call it in errors.

    Raises:
        ValueError: it holds the weights more than once.

    Example:
        >>> sorted(unwrapped({"module.a.weight": np.ones(1), "module.b": np.ones(1)}, "x"))
        ['a.weight', 'b']
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        prefix = _prefix(key)
        groups.setdefault(prefix, {})[key.removeprefix(prefix)] = value
    if groups.keys() <= {""}:
        return dict(arrays)
    plain = {
        key: value
        for key, value in groups.pop("", {}).items()
        if key not in _COUNTERS or value.size > 1
    }
    whole = plain
    for prefix, group in groups.items():
        if whole.keys() & group.keys():
            copies = [*groups, *(["no prefix"] if plain.keys() & group.keys() else [])]
            raise ValueError(
                f"weights {source!r} hold the same keys more than once, under {first_of(copies)} "
                f"(such as {min(whole.keys() & group.keys())} under {prefix}): save the copy that "
                "you want alone"
            )
        whole = whole | group
    return whole


def _prefix(key: str) -> str:
    """The wrappers in front of a key, with their last dot."""
    *folders, _ = key.split(".")
    count = next(
        (i for i, part in enumerate(folders) if part not in _WRAPPERS | _AVERAGED), len(folders)
    )
    return "".join(f"{part}." for part in folders[:count])


def other_prefix(missing: Iterable[str], unused: Iterable[str]) -> str:
    """A prefix under which most of the missing keys are among the unused ones; empty for none.

    Example:
        >>> other_prefix(["a.weight", "b"], ["net.a.weight", "net.b", "c"])
        'net.'
    """
    missing, unused = list(missing), set(unused)
    if not missing:
        return ""
    longest = max(missing, key=len)
    prefixes = sorted(key.removesuffix(longest) for key in unused if key.endswith(f".{longest}"))
    counts = {prefix: sum(prefix + key in unused for key in missing) for prefix in prefixes}
    best = max(counts, key=lambda prefix: counts[prefix], default="")
    return best if best and 2 * counts[best] > len(missing) else ""


def check_values(arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse parameters and statistics that are no weights of a network.

    Args:
        arrays: those that are used, by the checkpoint's keys.
        source: what to call it in errors.

    Raises:
        ValueError: another dtype than float16, bfloat16, float32 or float64, a number that is not
            finite, or a running variance below zero; keys are listed.
    """
    check_dtypes({key: value.dtype.name for key, value in arrays.items()}, source)
    odd = [
        f"{key} ({fault})" for key, value in sorted(arrays.items()) if (fault := _fault(key, value))
    ]
    if odd:
        raise ValueError(
            f"weights {source!r} are damaged: {len(odd)} arrays hold values that no training "
            f"leaves: {first_of(odd)}; fetch or save them again"
        )


def check_dtypes(dtypes: Mapping[str, str], source: str) -> None:
    """Refuse dtypes that hold no weights as they are: integers, booleans, complex and 8-bit floats.

    Raises:
        ValueError: keys with their dtypes.
    """
    odd = [f"{key} {dtype}" for key, dtype in sorted(dtypes.items()) if dtype not in _FLOATS]
    if odd:
        raise ValueError(
            f"weights {source!r}: {len(odd)} parameters of another dtype than "
            f"{', '.join(_FLOATS)}: {first_of(odd)}; save them as one of those (quantized weights "
            "multiplied by their scales)"
        )


def _fault(key: str, value: np.ndarray) -> str:
    """What is wrong with the numbers of an array, in words; empty for nothing."""
    if not value.size:
        return ""
    # The least and the greatest are NaN if any is, and take no memory.
    least, most = value.min(), value.max()
    if not (np.isfinite(least) and np.isfinite(most)):
        finite = np.isfinite(value)
        first = np.argwhere(~finite)[0].tolist()
        return f"{value.size - int(finite.sum())} of {value.size} not finite, first at {first}"
    return f"a variance of {least:g}" if key.endswith(_VARIANCE) and least < 0 else ""
