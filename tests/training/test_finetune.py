"""Fine-tuning on stripes: it learns what there is, nothing where labels mean nothing."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders import Encoder, encoder_spec, untrained
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.mesh import make_mesh
from substrate_jax.training.finetune import RECIPE, Classifier, fine_tuned_accuracy
from substrate_jax.training.mini_panel import Recipe

SIZE, ROWS = 16, 64
SHORT = Recipe("supervised", epochs=12, optimizer="adamw", learning_rate=1e-2, batch_size=16)


def stripes(seed=0):
    """Upright or lying stripes in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(ROWS) % 2
    wave = np.where(np.arange(SIZE) // 3 % 2, 60, -60)
    pattern = np.where(labels[:, None, None], wave[:, None], wave[None, :])[..., None]
    noise = rng.normal(128, 30, (ROWS, SIZE, SIZE, 3))
    return np.clip(noise + pattern, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def encoder():
    config = ResNetConfig(
        (1,),
        True,
        channels=(8,),
        stem_channels=8,
        stem_kernel=3,
        stem_stride=1,
        stem_pool=False,
        num_classes=0,
        image_size=SIZE,
    )
    plain = Preprocess(SIZE, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    spec = dataclasses.replace(encoder_spec("mini_resnet50"), config=config, preprocess=plain)
    return untrained(spec)


def accuracy(encoder, **options):
    images, labels = stripes()
    fitted = np.arange(ROWS) % 4 < 2
    return fine_tuned_accuracy(encoder, images, labels, fitted, **{"recipe": SHORT} | options)


def test_it_learns_what_it_is_shown_and_leaves_the_encoder_alone(encoder):
    before = [np.array(leaf) for leaf in encoder.functional()[1]]
    found = accuracy(encoder, mesh=make_mesh("data=1"))
    # Guessing has more than 87.5 % of 32 right with probability 1e-6.
    assert found > 87.5
    after = encoder.functional()[1]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_labels_without_meaning_are_not_predicted(encoder):
    images, labels = stripes()
    shuffled = np.random.default_rng(0).permutation(labels)
    fitted = np.arange(ROWS) % 4 < 2
    found = fine_tuned_accuracy(encoder, images, shuffled, fitted, recipe=SHORT)
    assert found <= 87.5


def test_the_head_begins_at_zero_on_the_encoders_own_features(encoder):
    images, _ = stripes()
    classifier = Classifier(nnx.clone(encoder.module), encoder.spec.preprocess, 3)
    assert (np.asarray(classifier(images[:2])) == 0).all()
    assert classifier.head.weight[...].shape == (encoder.spec.width, 3)


def test_the_rate_is_a_tenth_of_that_of_the_mini_panel():
    from substrate_jax.training.mini_panel import RECIPES

    (own,) = {recipe.learning_rate for recipe in RECIPES.values() if recipe.optimizer == "adamw"}
    assert own == pytest.approx(10 * RECIPE.learning_rate)


REFUSED = {
    "another size": ({"images": np.zeros((4, 8, 8, 3), np.uint8)}, r"images are \[8, 8, 3\]"),
    "none held out": ({"fitted": np.ones(4, bool)}, "4 of 4 images are fitted to"),
    "none fitted to": ({"fitted": np.zeros(4, bool)}, "0 of 4 images are fitted to"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, encoder):
    changes, message = REFUSED[case]
    given = {
        "images": np.zeros((4, SIZE, SIZE, 3), np.uint8),
        "labels": np.arange(4) % 2,
        "fitted": np.arange(4) < 2,
    } | changes
    with pytest.raises(ValueError, match=message):
        fine_tuned_accuracy(encoder, **given)


def test_half_precision_is_refused(encoder):
    half = Encoder(encoder.spec, encoder.module, source="made", sha256="0", dtype=jnp.bfloat16)
    with pytest.raises(ValueError, match="in bfloat16; load it in float32"):
        accuracy(half)
