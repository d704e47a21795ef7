"""Strict settings for every test: 8 simulated CPU devices, no silent promotion, skips by list."""

import gc
import importlib.metadata
import os
from pathlib import Path

# Compiling is most of the tests' time. Unoptimized machine code halves it, emitting fusions the
# short way takes off two fifths more, and code in one part, without LLVM's slow passes, a tenth.
# Set the level yourself, as to 3, XLA's, for its own defaults.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    quick = "--xla_backend_optimization_level=0"
    # XLA aborts at a flag that it does not know, as a later one may not.
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        quick += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        quick += " --xla_llvm_disable_expensive_passes=true"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}".strip()

# Two workers that each let LAPACK have all cores wait for each other: a QR of 0.1 s takes ten.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

# It defines flags: loaded first while a test holds flags, they would go when that test ends.
import grain
import jax
import pytest
import scipy.linalg
import threadpoolctl

from tests import helpers

assert grain
assert scipy.linalg  # whose LAPACK jax calls
threadpoolctl.threadpool_limits(1, user_api="blas")  # of what was loaded before
# With all that traces hold, looking for garbage every 700 objects took 9 % of the tests' time.
gc.set_threshold(50_000, 20, 50)
jax.config.update("jax_platforms", "cpu")
# What tests start is on CPU too: where libtpu is installed, jax looks for TPUs unless told.
os.environ["JAX_PLATFORMS"] = "cpu"
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# A test may skip only for a reason that begins with one of these.
ALLOWED_SKIPS = (
    "prepared image sets are absent",
    "published weights are absent",
    "libtpu is not installed",
)


# Each compiled program takes a few memory maps, of which Linux allows a process 65,530: then the
# compiler crashes. A worker that runs half of the tests would get there.
MOST_MAPS = 50_000


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that are marked long")


# Folders and files whose tests take longest, so that no worker begins with one as others end.
FIRST = ("multiprocess", "robustness", "experiments", "test_")


def pytest_configure(config):
    helpers.ALL = config.getoption("--long")


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked long, unless it is asked for: the same in other sizes, mostly."""
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
    tests = Path(__file__).parent
    items.sort(key=lambda item: not str(item.path.relative_to(tests)).startswith(FIRST))


def pytest_collection_finish():
    gc.freeze()  # what is imported stays, and is not looked through each time


def pytest_report_header():
    return f"jax {jax.__version__}: {jax.device_count()} {jax.default_backend()} devices"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"skipped for a reason that is not on the allow-list: {reason}"
    return report
