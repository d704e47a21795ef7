"""What a plan trains, and what is measured of a pretrained network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.analyses.unlabeled.measures import measure
from substrate_jax.analyses.unlabeled.plan import WAYS, check_plan
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders.networks.layers import constant_rngs
from substrate_jax.training.finetune import Classifier
from substrate_jax.training.objectives import SimCLR
from substrate_jax.training.students import student_config
from tests.analyses.unlabeled.synthetic import synthetic_plan


def test_the_first_way_with_a_target_is_judged():
    plan = synthetic_plan()
    assert plan.main == "substrate"
    assert plan.targets == ["substrate", "encoder:$net$ <i>"]
    every = synthetic_plan(pretrainings=tuple(WAYS))
    assert every.targets == ["substrate", "shuffled", "untrained", "pixels"]
    assert synthetic_plan(pretrainings=("scratch", "simclr")).main is None
    # Two sets, two numbers of labels, five ways, three seeds of which one tries two rates.
    assert plan.tunings(2) == 2 * 2 * 5 * 4
    assert plan.steps(900) == 140
    assert synthetic_plan(batch_size=1000).steps(900) == 10
    check_plan(plan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": (0.1, 0.1)}, "rates: give at least one, and none twice"),
        ({"rates": (float("nan"),)}, "rates: nan: give numbers above 0"),
        ({"labels": ()}, "label_counts: give at least one, and none twice"),
        ({"labels": (-1,)}, "label_counts: -1: give 1 or more, or all"),
    ],
)
def test_bad_plans_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_plan(synthetic_plan(**changes))


def test_features_that_collapse_are_seen_to():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(400, 8)).astype(np.float32)
    target = (spread[:, :3] @ rng.normal(size=(3, 3))).astype(np.float32)
    found = measure("substrate", 0, spread, target, None)
    assert found.rankme > 7.9
    assert found.constant == 0
    np.testing.assert_allclose(found.variation, 1, atol=0.01)
    np.testing.assert_allclose(found.deviation, 1, atol=0.1)
    # To one direction, far from the origin, with half of the features off.
    line = np.zeros((400, 8), np.float32)
    line[:, :4] = 5 + 0.1 * spread[:, :1]
    found = measure("substrate", 0, line, target, None)
    assert found.rankme < 1.2
    np.testing.assert_allclose(found.effective_rank, 1, rtol=1e-3)
    assert found.constant == 0.5
    assert found.variation < 1e-3
    same = measure("substrate", 0, np.ones((400, 8), np.float32), target, None)
    assert same.constant == 1
    assert same.variation == 0
    np.testing.assert_allclose(same.alignment, 0)
    assert np.isnan(same.rankme)
    assert np.isnan(same.images_per_second)


@pytest.mark.parametrize("kind", ["views", "classifier"])
def test_half_precision_weights_take_half_precision_pixels(kind):
    """Shapes and dtypes only, which strict promotion would refuse."""
    network = student_config("mini_resnet18", 3).build(constant_rngs(np.random.default_rng(0)))
    rngs = constant_rngs(np.random.default_rng(0))
    preprocess = Preprocess(32)
    module = (
        SimCLR(network, preprocess, rngs=rngs)
        if kind == "views"
        else Classifier(network, preprocess, 3)
    )
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)

    def loss(parameters, images, labels, key):
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), parameters)
        return nnx.merge(graph, half, rest, copy=True).loss(images, labels, key)[0]

    images, labels = jnp.zeros((8, 32, 32, 3), jnp.uint8), jnp.zeros(8, jnp.int32)
    found = jax.eval_shape(loss, parameters, images, labels, jax.random.key(0))
    assert found.dtype == jnp.float32
