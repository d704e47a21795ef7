"""Small fits side by side: how many at a time, and what may not be.

A fit of a few hundred rows is too small for more than one core, and so is compiling a program. XLA
and NumPy let other threads of Python go on meanwhile.

Not guaranteed: a gain on many cores, where two threads are few, or where a fit is large.
"""

import concurrent.futures
import contextlib
import threading

THREADS = 2
_LAPACK = threading.Lock()


def fitting(name: str) -> concurrent.futures.ThreadPoolExecutor:
    """A pool of `THREADS` threads, called by `name`.

    Example:
        >>> with fitting("half") as pool:
        ...     list(pool.map(lambda x: x / 2, [2, 4]))
        [1.0, 2.0]
    """
    return concurrent.futures.ThreadPoolExecutor(THREADS, name)


def decomposing(calls: bool = True) -> contextlib.AbstractContextManager:
    """Holds what all threads share where one calls LAPACK for a batch: two at once gain nothing.

    Example:
        >>> with decomposing(False), decomposing():
        ...     pass
    """
    return _LAPACK if calls else contextlib.nullcontext()
