"""Two processes of two devices, over loopback, compute what one device does; by hand also

    python -m pytest -n 0 --long tests/multiprocess/test_kernels_processes.py

four processes of two, and one of 64.
"""

import functools

import jax
import numpy as np
import pytest

from substrate_jax import kernels
from tests.helpers import long, relative_error
from tests.kernels.measures.test_table import ORACLES
from tests.multiprocess import processes
from tests.multiprocess.kernels_worker import FEW, everything, sample

ALL = tuple(kernels.MEASURES)
# Processes, devices of each, rows: as many on each device; measures.
LAYOUTS = [(2, 2, 48, FEW), long(2, 2, 48, ALL), long(4, 2, 48, ALL), long(1, 64, 128, ALL)]


@pytest.mark.parametrize(("count", "devices", "rows", "names"), LAYOUTS)
def test_processes_give_the_numbers_of_one(count, devices, rows, names, tmp_path):
    options = {"count": count, "devices": devices, "timeout": 3600}
    given = (f"--rows={rows}", "--measures", *names)
    processes.run("tests.multiprocess.kernels_worker", tmp_path, *given, **options)
    found = [dict(np.load(tmp_path / f"kernels{rank}.npz")) for rank in range(count)]
    blocks = [jax.numpy.asarray(block) for block in sample(rows)]
    want = jax.jit(functools.partial(everything, names=names))(blocks)
    for each in found:
        assert each.keys() == want.keys()
    for name, value in want.items():
        for each in found[1:]:
            np.testing.assert_array_equal(each[name], found[0][name], err_msg=name)
        condition = ORACLES[name][1] if name in ORACLES else 1
        assert relative_error(found[0][name], value) < 1e-5 * max(1, condition / 10), name
