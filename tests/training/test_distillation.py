"""Students: what every method's loss is made of, what learns and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from substrate_jax.data.preprocess import Preprocess, normalize
from substrate_jax.encoders.networks.layers import constant_rngs
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.losses import cka_loss
from substrate_jax.training.augment import crop_and_flip
from substrate_jax.training.distillation import METHODS, Frozen, Student, Teacher, student_loss
from substrate_jax.training.finetune import Classifier
from substrate_jax.training.loop import fit
from substrate_jax.training.program import Run
from substrate_jax.training.rows import epoch_rows
from tests.encoders.networks.modules import leaves
from tests.helpers import long, relative_error, tolerance
from tests.training.pictures import SIZE, pictures

ROWS, CLASSES, WIDTH = 32, 3, 4
PLAIN = Preprocess(SIZE, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
DATA = {
    "images": pictures(ROWS),
    "labels": (np.arange(ROWS) % CLASSES).astype(np.int32),
    "target": np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype(np.float32),
}


def network(seed=0, channels=8):
    config = ResNetConfig(
        (1,),
        False,
        channels=(channels,),
        stem_channels=4,
        stem_kernel=3,
        stem_stride=2,
        stem_pool=False,
        num_classes=CLASSES,
        image_size=SIZE,
    )
    return config.build(constant_rngs(np.random.default_rng(seed)))


def make_teacher():
    classifier = Classifier(network(7), PLAIN, CLASSES)
    rng = np.random.default_rng(2)
    head = classifier.head.weight
    head[...] = jnp.asarray(rng.normal(size=head[...].shape), jnp.float32)
    classifier.eval()
    return classifier


def student(method, seed=0):
    taught = Teacher(make_teacher()) if METHODS[method].needs == "teacher" else None
    rngs = constant_rngs(np.random.default_rng(5))
    return Student(network(seed), PLAIN, method, width=WIDTH, teacher=taught, rngs=rngs)


def train(method, weight=None, steps=2, classify=1.0):
    settings = {
        "classify": classify,
        "weight": METHODS[method].weight if weight is None else weight,
    }
    given = student(method)
    (fitted,) = fit(
        [Run(given, 0, settings=settings)],
        student_loss,
        optax.adam(1e-2),
        DATA,
        lambda run, step: epoch_rows(np.arange(ROWS), run.seed, step, ROWS),
        steps=steps,
        save_every=1,
    )
    return given, fitted


FEW = ("ce", "cka", "kd")  # by labels, by scores of a target, by logits of a teacher


@pytest.mark.parametrize("method", [m if m in FEW else long(m) for m in METHODS])
def test_every_parameter_learns_and_no_other_weight(method):
    # Without labels the classifier learns nothing but from a teacher's logits.
    by_logits = "logits" in METHODS[method].of
    given, fitted = train(method, classify=1.0 if method == "ce" else 0.0)
    parameters = [dict(leaves(nnx.state(module, nnx.Param))) for module in (given, fitted.module)]
    for path, before in parameters[0].items():
        moved = np.any(parameters[1][path] != before)
        classifier = "fc" in str(path)
        assert moved == (not classifier or by_logits or method == "ce"), path
    if given.teacher is not None:
        for before, after in zip(given.teacher.weights, fitted.module.teacher.weights, strict=True):
            assert isinstance(after, Frozen)
            np.testing.assert_array_equal(after[...], before[...])
    record = fitted.records[0]
    expected = record["ce"] if method == "ce" else METHODS[method].weight * record["term"]
    np.testing.assert_allclose(record["loss"], expected, rtol=1e-6)


def test_the_loss_is_the_sum_of_its_parts():
    key = jax.random.key(3)
    given = student("debiased_cka")
    given.train()
    batch = {name: jnp.asarray(value) for name, value in DATA.items()}
    batch |= {"classify": jnp.float32(0.5), "weight": jnp.float32(2)}
    value, metrics = given.loss(batch, key)
    views = crop_and_flip(key, batch["images"], padding=1)
    other = student("debiased_cka")
    other.train()
    features = other.network.features(normalize(views, PLAIN))
    logits = other.network.classify(features)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()
    term = cka_loss(features, batch["target"])
    within = tolerance(ROWS * WIDTH)
    assert relative_error(metrics["ce"], entropy) <= within
    assert relative_error(metrics["term"], term) <= within
    assert relative_error(value, 0.5 * entropy + 2 * term) <= 2 * within
    assert float(metrics["accuracy"]) == np.mean(np.asarray(logits).argmax(-1) == DATA["labels"])


def test_a_term_of_weight_zero_leaves_labels_alone():
    _, alone = train("ce", steps=3)
    _, fitted = train("debiased_cka", 0.0, steps=3)
    for path, value in leaves(nnx.state(alone.module.network, nnx.Param)).items():
        found = leaves(nnx.state(fitted.module.network, nnx.Param))[path]
        # Adam divides by the size of gradients, so their rounding counts in full at every step.
        np.testing.assert_allclose(found, value, atol=1e-4)
    np.testing.assert_allclose(
        [r["ce"] for r in fitted.records], [r["ce"] for r in alone.records], rtol=1e-4
    )


def test_a_teacher_says_what_its_classifier_says():
    classifier = make_teacher()
    features, logits = Teacher(classifier)(DATA["images"])
    np.testing.assert_array_equal(logits, classifier(DATA["images"]))
    pixels = normalize(DATA["images"], PLAIN)
    np.testing.assert_array_equal(features, classifier.network.features(pixels))


def test_what_does_not_fit_is_refused():
    rngs = constant_rngs(np.random.default_rng(0))
    with pytest.raises(ValueError, match="method 'kd' needs a teacher"):
        Student(network(), PLAIN, "kd", rngs=rngs)
    with pytest.raises(ValueError, match="method 'ce' has no teacher"):
        Student(network(), PLAIN, "ce", teacher=Teacher(make_teacher()), rngs=rngs)
    with pytest.raises(ValueError, match="features of width 1, which have no directions"):
        Student(network(channels=1), PLAIN, "cka", rngs=rngs)
