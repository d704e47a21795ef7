"""What the losses add to a training step of a ResNet-18, as docs/results.md has it.

    python -m tests.losses.cost             # batches of 32, 128 and 512; 11 GB
    python -m tests.losses.cost --rows 512 --most 32        # within 2 GB

The network is the CIFAR form: 32 x 32 images, a 3 x 3 stem of stride 1, 512 features; the step is
cross entropy with its gradient, by SGD with momentum. Each loss with its gradient is timed alone,
in turn with the step, at 512 features and 16 scores: the difference of two steps would be lost in
the noise of either. Medians of the time that all cores spent, which other work on the machine does
not add to. Flops of the step as XLA counts them, of the losses those of matrix products.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from substrate_jax import losses
from substrate_jax.encoders.networks.resnet import ResNetConfig
from tests.helpers import matrix_products

CONFIG = ResNetConfig(
    depths=(2, 2, 2, 2),
    bottleneck=False,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=100,
    image_size=32,
)
SCORES = 16
LOSSES = {
    "CKA": losses.cka_loss,
    "SP": losses.similarity_preserving_loss,
    "PKT": losses.pkt_loss,
    "RKD": losses.relational_loss,
}


def training_step(rows: int):
    """A compiled step, what it is called on, and how its results are its next arguments."""
    network = CONFIG.build(nnx.Rngs(0))
    network.train()
    graph, parameters, rest = nnx.split(network, nnx.Param, ...)
    optimizer = optax.sgd(0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(rows, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(CONFIG.num_classes, size=rows))

    def step(parameters, rest, state):
        def loss(parameters):
            module = nnx.merge(graph, parameters, rest, copy=True)
            logits = module.classify(module.features(images))
            value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return value, nnx.split(module, nnx.Param, ...)[2]

        slope, rest_after = jax.grad(loss, has_aux=True)(parameters)
        change, state = optimizer.update(slope, state)
        return optax.apply_updates(parameters, change), rest_after, state

    arguments = parameters, rest, optimizer.init(parameters)
    return jax.jit(step).lower(*arguments).compile(), arguments


def compiled_losses(rows: int):
    """Compiled values and gradients, their flops, and the features and scores they are of."""
    rng = np.random.default_rng(1)
    given = [
        jnp.asarray(rng.normal(size=(rows, width)), jnp.float32) for width in (CONFIG.width, SCORES)
    ]
    both = {name: jax.value_and_grad(loss) for name, loss in LOSSES.items()}
    programs = {name: jax.jit(each).lower(*given).compile() for name, each in both.items()}
    jaxprs = {name: jax.make_jaxpr(each)(*given).jaxpr for name, each in both.items()}
    flops = {name: sum(each for each, _ in matrix_products(p)) for name, p in jaxprs.items()}
    return programs, flops, given


def seconds(program, arguments, calls: int = 1) -> float:
    """Of one call, on all cores together; of some calls their mean."""
    start = time.process_time()
    for _ in range(calls):
        jax.block_until_ready(program(*arguments))
    return (time.process_time() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="*", default=[32, 128, 512])
    parser.add_argument("--repeats", type=int, default=7)
    most = "rows of the step: a larger one (11 GB at 512) counts as so many of these"
    parser.add_argument("--most", type=int, default=512, help=most)
    options = parser.parse_args()
    for rows in options.rows:
        step_rows = min(rows, options.most)
        step, state = training_step(step_rows)
        programs, flops, given = compiled_losses(rows)
        times: dict[str, list[float]] = {name: [] for name in ("step", *programs)}
        for repeat in range(options.repeats + 1):  # the first is not counted
            measured = {"step": seconds(step, state) * rows / step_rows}
            for name, program in programs.items():
                measured[name] = seconds(program, given, calls=1 if name == "RKD" else 20)
            for name, value in measured.items():
                times[name] += [value] if repeat else []
        middle = {name: float(np.median(each)) for name, each in times.items()}
        flops["step"] = step.cost_analysis()["flops"] * rows / step_rows
        print(f"batch {rows}: step {middle['step']:.2f} s, {flops['step'] / 1e9:.0f} GF")
        for name in programs:
            share, needed = (100 * each[name] / each["step"] for each in (middle, flops))
            print(
                f"  {name}: {1e3 * middle[name]:.2f} ms, {share:.3f} % of the step; "
                f"{flops[name] / 1e9:.3f} GF, {needed:.3f} %"
            )


if __name__ == "__main__":
    main()
