"""Measure the kernels against this machine's own ceilings, and against peers where installed.

    python -m experiments.bench --what=cka --n=4096
    python -m experiments.bench --what=extract --encoders=all

`cka`: pairwise CKA of 14 encoders with the widths of the paper's panel, on random features. Prints
the median of repeats after a warm-up, the compile time apart, the fraction of the ceiling (the
largest float32 matrix product, measured in the same run) counting only the flops that are needed,
and, with torch installed, the time of the usual way: for each pair, both centred n x n Gram
matrices and their inner products. The largest disagreement of the two results is printed too.

`extract`: images a second of the forward pass of each encoder of the paper's panel, batch 16 at
224 pixels, on random weights; with torch and timm installed, of timm's network with the same
weights in the same run, turn by turn: eager float32 on CPU, torch.compile in --dtype on a GPU.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments import launch

FLAGS = flags.FLAGS
flags.DEFINE_enum("what", "cka", ["cka", "extract"], "What to measure.")
flags.DEFINE_list("encoders", ["all"], "Of the paper's panel, for --what=extract.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "For --what=extract.")
flags.DEFINE_integer("batch_size", 16, "Images at once, for --what=extract.")
flags.DEFINE_integer("n", 4096, "Rows.")
flags.DEFINE_integer("repeats", 3, "Timed repeats, of which the median counts.")

PAPER_WIDTHS = (
    2048, 2048, 1024, 768, 1024, 1280, 768, 896, 768, 1512, 768, 768, 768, 1024,
)  # fmt: skip


def run() -> None:
    """Measure, print a table, and write result.json."""
    {"cka": bench_cka, "extract": bench_extract}[FLAGS.what]()


def bench_cka() -> None:
    """Pairwise CKA."""
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


def bench_extract() -> None:
    """The forward pass of every encoder."""
    import jax

    from substrate_jax import report
    from substrate_jax.encoders import select_encoders
    from substrate_jax.mesh import make_mesh

    names = select_encoders(FLAGS.encoders, "paper")
    if FLAGS.dry_run:
        print(f"{len(names)} encoders, batch {FLAGS.batch_size}, {FLAGS.dtype}: {', '.join(names)}")
        return
    out = Path(FLAGS.out or "runs/bench")
    rows = []
    with launch.claim(out):
        print(
            f"{'encoder':18s} {'compile s':>9s} {'images/s':>9s} {'timm':>9s} {'ratio':>6s}  error"
        )
        for name in names:
            row = bench_encoder(name)
            rows.append(row)
            peer = ""
            if "peer" in row:
                peer = f" {row['peer']:9.1f} {row['ratio']:6.2f}  {row['error']:.1e}"
            print(f"{name:18s} {row['compile']:9.1f} {row['ours']:9.1f}{peer}", flush=True)
            jax.clear_caches()
        result = {
            "experiment": "bench",
            **launch.provenance(make_mesh(FLAGS.mesh)),
            "what": FLAGS.what,
            "batch_size": FLAGS.batch_size,
            "dtype": FLAGS.dtype,
            "rows": rows,
            **peer_versions(),
        }
        report.write_result(result, out)
    print(json.dumps(result["devices"] | peer_versions()))


def bench_encoder(name: str) -> dict:
    """Images a second of one encoder, and of timm's network where that is installed."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from substrate_jax.encoders import encoder_spec, weights
    from substrate_jax.encoders.encoder import Encoder

    spec = encoder_spec(name)
    size = spec.config.image_size
    images = np.random.default_rng(FLAGS.seed).standard_normal(
        (FLAGS.batch_size, size, size, 3), np.float32
    )
    peer = timm_network(spec)
    if peer is None:
        shapes = weights.inventory(weights.abstract_module(spec.config))
        rng = np.random.default_rng(FLAGS.seed)
        arrays = {key: 0.02 * rng.standard_normal(s, np.float32) for key, s in shapes.items()}
        arrays |= {key: np.ones_like(a) for key, a in arrays.items() if key.endswith("_var")}
    else:
        arrays = {key: value.numpy() for key, value in peer.state_dict().items()}
    module = weights.fill(
        weights.abstract_module(spec.config),
        arrays,
        source=name,
        optional_keys=spec.optional_keys,
        dtype=jnp.dtype(FLAGS.dtype),
    )
    module.eval()
    encoder = Encoder(spec, module, source=name, sha256="", dtype=jnp.dtype(FLAGS.dtype))
    function, state = encoder.functional()
    placed = jax.device_put(images)
    start = time.perf_counter()
    program = jax.jit(function).lower(state, placed).compile()
    row = {"encoder": name, "compile": time.perf_counter() - start}

    def ours():
        return jax.block_until_ready(program(state, placed))

    if peer is None:
        seconds, _ = median_seconds(ours)
        return row | {"ours": FLAGS.batch_size / seconds}
    theirs = timm_forward(peer, images)
    features, reference = ours(), theirs()
    times = [(timed(ours), timed(theirs)) for _ in range(FLAGS.repeats)]
    mine, their = (float(np.median(column)) for column in zip(*times, strict=True))
    error = np.linalg.norm(np.asarray(features) - reference) / np.linalg.norm(reference)
    return row | {
        "ours": FLAGS.batch_size / mine,
        "peer": FLAGS.batch_size / their,
        "ratio": their / mine,
        "error": float(error),
    }


def timm_network(spec):
    """timm's network of a checkpoint's architecture at our image size; None without timm."""
    try:
        from tests.golden.timm_import import import_timm

        timm = import_timm()
    except ImportError:
        return None
    model = spec.checkpoint.removeprefix("timm/")
    network = timm.create_model(model)
    size, published = spec.config.image_size, network.pretrained_cfg
    if published.get("fixed_input_size") and published["input_size"][1] != size:
        network = timm.create_model(model, img_size=size)
    return network.eval()


def timm_forward(network, images):
    """A call that gives the features as float32 NumPy, the device's work done."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    network = network.to(device)
    if device == "cuda":
        dtype = getattr(torch, FLAGS.dtype)
        pixels = pixels.to(dtype, memory_format=torch.channels_last)
        network = network.to(dtype=dtype, memory_format=torch.channels_last)

    def features(pixels):
        return network.forward_head(network.forward_features(pixels), pre_logits=True)

    if device == "cuda":
        features = torch.compile(features)

    def call():
        with torch.inference_mode():
            return features(pixels).float().cpu().numpy()

    return call


def peer_versions() -> dict:
    """Versions of torch and timm and torch's device, where installed."""
    try:
        from importlib.metadata import version

        import torch
    except ImportError:
        return {}
    cuda = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "timm": version("timm"),
        "torch_device": torch.cuda.get_device_name() if cuda else "cpu",
        "torch_threads": torch.get_num_threads(),
    }


def timed(function: Callable) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(function: Callable) -> tuple[float, object]:
    """Median wall time of a call after one warm-up, and its result."""
    value = function()
    times = [timed(function) for _ in range(FLAGS.repeats)]
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
