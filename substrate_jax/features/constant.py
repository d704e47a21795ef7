"""Which encoders give every image the same features, so that no comparison with them means a thing.

A dead layer, a mask of zeros or a wrong input range does that, and CKA with such an encoder is 0,
which reads like disagreement.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_ROWS = 512


def constant_blocks(features: Mapping[str, Any]) -> list[str]:
    """Names of the blocks whose rows are all equal, up to the rounding of a few operations.

    A column counts as constant where its range is at most 8 eps max|x| in float32, as it does in
    the kernels.

    Args:
      features: name -> [n, d], arrays or rows in a store.

    Returns:
      Names in the order of `features`. A block of no rows or of one row is not among them.

    Cost: one chunk of rows per block, and all rows of a constant one.

    Example:
      >>> constant_blocks({"dead": np.ones((3, 2)), "alive": np.eye(3)})
      ['dead']
    """
    return [name for name, block in features.items() if _is_constant(block)]


def _is_constant(block) -> bool:
    if len(block) < 2:
        return False
    low = high = np.asarray(block[:1], np.float64)[0]
    for start in range(0, len(block), _ROWS):
        rows = np.asarray(block[start : start + _ROWS], np.float64)
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
        magnitude = np.maximum(np.abs(low), np.abs(high))
        # Written so that NaN, which is no constant, ends it.
        if not (high - low <= 8 * np.finfo(np.float32).eps * magnitude).all():
            return False
    return True
