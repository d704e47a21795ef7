"""Kernels and encoders on a GPU against the CPU of its host, as `scripts/gpu.sh` runs them.

    JAX_PLATFORMS=cuda,cpu python -m tests.on_gpu

The tests themselves want eight devices, which are simulated CPUs. Here each kernel and measure,
and each network of the mini panel, is computed on both and must agree: kernels within their tests'
limit, networks within the rounding of TF32, which convolutions in float32 may take there.
"""

import functools
import sys
import time

import jax
import numpy as np

from substrate_jax import kernels, list_encoders, load_encoder
from substrate_jax.data.domains import open_source
from substrate_jax.data.sources import take
from substrate_jax.features import extract
from substrate_jax.mesh import make_mesh
from tests.helpers import relative_error
from tests.kernels.measures.test_table import ORACLES
from tests.multiprocess.kernels_worker import everything, sample

IMAGES = 16
TF32 = 2.0**-10


def kernels_differ(there, here) -> dict[str, tuple[float, float]]:
    """Name -> relative error on one device against another, and the most it may be."""
    program = jax.jit(functools.partial(everything, names=tuple(kernels.MEASURES)))
    found, want = (program(jax.device_put(sample(), device)) for device in (there, here))
    limits = {
        name: 1e-5 * max(1, ORACLES[name][1] / 10) if name in ORACLES else 1e-5 for name in want
    }
    return {name: (relative_error(found[name], want[name]), limits[name]) for name in want}


def encoders_differ(there, here, names) -> dict[str, tuple[float, float]]:
    """The same of encoders' features."""
    source = take(open_source("texture"), IMAGES, 0)
    results = {}
    for name in names:
        encoder = load_encoder(name)
        found, want = (
            np.asarray(extract([encoder], source, mesh=make_mesh("data=1", [device]))[name])
            for device in (there, here)
        )
        results[name] = relative_error(found, want), 8 * TF32
    return results


def main(names) -> int:
    """Print a line for each, and give how many are off."""
    there, here = jax.devices()[0], jax.devices("cpu")[0]
    print(f"{there.device_kind} against {here.device_kind}, jax {jax.__version__}", flush=True)
    wrong = 0
    for check in (kernels_differ, functools.partial(encoders_differ, names=names)):
        start = time.perf_counter()
        for name, (error, limit) in check(there, here).items():
            wrong += not error <= limit
            print(f"{'ok ' if error <= limit else 'OFF'} {name}: {error:.1e} of {limit:.1e}")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:] or list_encoders("mini")), 100))
