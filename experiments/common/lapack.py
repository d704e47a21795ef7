"""Threads of LAPACK, for launchers that decompose many small matrices."""

import os


def one_thread() -> None:
    """Have NumPy's and SciPy's LAPACK compute in one thread; call it before they are loaded.

    Its threads and XLA's wait for each other: an eigendecomposition of 513 x 513 took 1,179 ms with
    two and 25 with one. A number that the user has set stays.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
