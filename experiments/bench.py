"""Measure the kernels against this machine's own ceilings, and against peers where installed.

    python -m experiments.bench --what=cka --n=4096

`cka`: pairwise CKA of 14 encoders with the widths of the paper's panel, on random features. Prints
the median of repeats after a warm-up, the compile time apart, the fraction of the ceiling (the
largest float32 matrix product, measured in the same run) counting only the flops that are needed,
and, with torch installed, the time of the usual way: for each pair, both centred n x n Gram
matrices and their inner products. The largest disagreement of the two results is printed too.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments import launch

FLAGS = flags.FLAGS
flags.DEFINE_enum("what", "cka", ["cka"], "What to measure.")
flags.DEFINE_integer("n", 4096, "Rows.")
flags.DEFINE_integer("repeats", 3, "Timed repeats, of which the median counts.")

PAPER_WIDTHS = (
    2048, 2048, 1024, 768, 1024, 1280, 768, 896, 768, 1512, 768, 768, 768, 1024,
)  # fmt: skip


def run() -> None:
    """Measure, print a table, and write result.json."""
    import jax
    import numpy as np

    from substrate_jax import kernels, report
    from substrate_jax.kernels.cka import resolve_space
    from substrate_jax.mesh import make_mesh

    rng = np.random.default_rng(FLAGS.seed)
    blocks = [rng.standard_normal((FLAGS.n, d), np.float32) for d in PAPER_WIDTHS]
    total = sum(PAPER_WIDTHS)
    space = resolve_space("auto", blocks, None)
    # One half of the symmetric product, the diagonal included.
    if space == "feature":
        flops = FLAGS.n * sum(d * sum(PAPER_WIDTHS[i:]) for i, d in enumerate(PAPER_WIDTHS)) * 2
    else:
        flops = FLAGS.n**2 * (total + len(PAPER_WIDTHS) ** 2)
    if FLAGS.dry_run:
        print(f"{len(blocks)} encoders, n={FLAGS.n}, D={total}, {space} space, {flops:.2e} flops")
        return
    out = Path(FLAGS.out or "runs/bench")
    with launch.claim(out):
        placed = [jax.device_put(block) for block in blocks]
        ceiling = matrix_product_ceiling()
        start = time.perf_counter()
        program = jax.jit(kernels.pairwise_cka).lower(placed).compile()
        compile_seconds = time.perf_counter() - start
        seconds, ours = median_seconds(lambda: jax.block_until_ready(program(placed)))
        rows = [("substrate_jax", seconds, 0.0)]
        peer = torch_pairs(blocks)
        if peer is not None:
            rows.append(
                (
                    "torch, Grams pair by pair",
                    peer[0],
                    float(np.abs(peer[1] - np.asarray(ours)).max()),
                )
            )
        result = {
            "experiment": "bench",
            **launch.provenance(make_mesh(FLAGS.mesh)),
            "what": FLAGS.what,
            "n": FLAGS.n,
            "widths": list(PAPER_WIDTHS),
            "space": space,
            "flops": flops,
            "ceiling_flops_per_second": ceiling,
            "compile_seconds": compile_seconds,
            "fraction_of_ceiling": flops / seconds / ceiling,
            "seconds_by_method": {name: value for name, value, _ in rows},
        }
        report.write_result(result, out)
    print(
        f"{len(blocks)} encoders, n={FLAGS.n}, D={total}, {space} space, {flops:.3g} flops needed"
    )
    print(f"matrix product ceiling {ceiling / 1e9:.0f} GF/s; compile {compile_seconds:.1f} s")
    for name, value, disagreement in rows:
        print(
            f"{name:28s} {value:8.2f} s   {flops / value / ceiling:6.1%} of the ceiling   "
            f"{value / seconds:6.1f}x   largest difference {disagreement:.1e}"
        )
    if peer is None:
        print("torch is not installed: no comparison (pip install torch)")
    print(json.dumps(result["devices"]))


def median_seconds(function: Callable) -> tuple[float, object]:
    """Median wall time of a call after one warm-up, and its result."""
    value = function()
    times = []
    for _ in range(FLAGS.repeats):
        start = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2], value


def matrix_product_ceiling(size: int = 4096) -> float:
    """Flops per second of the best of several square float32 products."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    a = jax.random.normal(jax.random.key(0), (size, size))
    jax.block_until_ready(product(a, a))
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def torch_pairs(blocks):
    """Seconds and matrix of CKA computed one pair after another; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    import numpy as np

    tensors = [torch.from_numpy(block) for block in blocks]

    def centred_gram(x):
        gram = x @ x.T
        gram -= gram.mean(0, keepdim=True)
        gram -= gram.mean(1, keepdim=True)
        return gram

    matrix = np.eye(len(blocks))
    start = time.perf_counter()
    for i in range(len(tensors)):
        for j in range(i):
            k, l = centred_gram(tensors[i]), centred_gram(tensors[j])  # noqa: E741
            value = (k * l).sum() / (torch.linalg.norm(k) * torch.linalg.norm(l))
            matrix[i, j] = matrix[j, i] = float(value)
    return time.perf_counter() - start, matrix


if __name__ == "__main__":
    launch.start(run)
