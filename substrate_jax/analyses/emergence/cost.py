"""What a plan costs before it is run: floating-point operations, and a guess at the time.

A training step is counted as three forward passes, a watched step as one of every test image; a
self-supervised step sees two views of each image.

Not guaranteed: the time. `RATE` is what two cores of a small machine reach on small networks; an
accelerator is a hundred times as fast.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from substrate_jax.analyses.emergence.plan import SELF_SUPERVISED, Plan
from substrate_jax.encoders.networks.network import Config, input_shape
from substrate_jax.encoders.weights import abstract_module

RATE = 4e10  # FLOP per second


def forward_flops(config: Config) -> float:
    """Operations of one image's forward pass, as XLA counts them.

    Example:
        >>> from substrate_jax.training.students import student_config
        >>> 1e7 < forward_flops(student_config("mini_resnet18", 10)) < 4e7
        True
    """
    graph, state = nnx.split(abstract_module(config))

    def features(state, images):
        return nnx.merge(graph, state).features(images)

    image = jax.ShapeDtypeStruct((1, *input_shape(config)), jnp.float32)
    counted = jax.jit(features).lower(state, image).cost_analysis()
    return float(counted["flops"]) if counted else float("nan")


def cost(plan: Plan, config: Config, test_images: int) -> tuple[float, str]:
    """Operations of all trainings, and the time that two cores take for them, in words."""
    one = forward_flops(config)
    views = sum(2 if objective == SELF_SUPERVISED else 1 for objective, _ in plan.trainings)
    trained = 3 * one * plan.steps * plan.recipe.batch_size * views
    watched = one * test_images * len(plan.watched) * len(plan.trainings)
    minutes = (trained + watched) / RATE / 60
    words = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{max(minutes, 1):.0f} minutes"
    return trained + watched, f"{words} on two cores, less than a hundredth on an accelerator"
