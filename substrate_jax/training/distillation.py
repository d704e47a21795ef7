r"""Students that learn from labels and from something else: a substrate, or a trained teacher.

    loss = c CE(logits, labels) + w term(features, logits, target)

`METHODS` has the terms. Some compare the student's features with a fixed target of the same images
(scores of a substrate, computed once, no network in the loop); others with what a trained teacher
gives for the same view of the image (its forward pass in every step). c is 1 in training on labels
and 0 in pretraining without; w is the method's own by default, as its authors have it.

Not guaranteed: that a method's published weight suits another student, batch size or data.

References: `losses` gives those of the terms.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, UInt8

from substrate_jax.data.preprocess import Preprocess, normalize
from substrate_jax.encoders.networks.layers import Linear
from substrate_jax.encoders.networks.network import Network
from substrate_jax.losses import (
    cka_loss,
    cosine_loss,
    decoupled_kd_loss,
    kd_loss,
    mse_loss,
    pkt_loss,
    relational_loss,
    similarity_preserving_loss,
    variance_loss,
)
from substrate_jax.training.augment import crop_and_flip
from substrate_jax.training.finetune import Classifier

Images = UInt8[Array, "n s s 3"]


FEATURES, PROJECTED, LOGITS, LABELS = "features", "projected", "logits", "labels"
TARGET, TEACHER_FEATURES, TEACHER_LOGITS = "target", "teacher_features", "teacher_logits"
_ON_TARGET, _ON_TEACHER = (FEATURES, TARGET), (FEATURES, TEACHER_FEATURES)


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to learn.

    Attributes:
        title: in words.
        needs: what the term compares with.
        weight: of the term, that of its authors.
        term: 0 or more; none for labels alone.
        of: names of the term's arguments. "projected" are the student's features by a linear map
            to the target's width, which is not kept.
    """

    title: str
    needs: Literal["labels", "target", "teacher"]
    weight: float = 0.0
    term: Callable[..., Float[Array, ""]] | None = None
    of: tuple[str, ...] = ()


def _spread_cka(features: Float[Array, "b d"], target: Float[Array, "b k"]) -> Float[Array, ""]:
    return cka_loss(features, target) + variance_loss(features)


_BIASED = functools.partial(cka_loss, debiased=False)
_SP = similarity_preserving_loss
METHODS: Mapping[str, Method] = {
    "ce": Method("labels alone", "labels"),
    "debiased_cka": Method("debiased CKA", "target", 1.0, cka_loss, _ON_TARGET),
    "cka": Method("CKA, biased", "target", 1.0, _BIASED, _ON_TARGET),
    "spread_cka": Method("debiased CKA and variance", "target", 1.0, _spread_cka, _ON_TARGET),
    "mse": Method("squared error of a head", "target", 1.0, mse_loss, (PROJECTED, TARGET)),
    "cosine": Method("cosine of a head", "target", 1.0, cosine_loss, (PROJECTED, TARGET)),
    "sp": Method("similarity preserving", "target", 3000.0, _SP, _ON_TARGET),
    "kd": Method("distillation of logits", "teacher", 1.0, kd_loss, (LOGITS, TEACHER_LOGITS)),
    "dkd": Method(
        "decoupled distillation",
        "teacher",
        1.0,
        decoupled_kd_loss,
        (LOGITS, TEACHER_LOGITS, LABELS),
    ),
    "teacher_sp": Method("similarity preserving", "teacher", 3000.0, _SP, _ON_TEACHER),
    "teacher_cka": Method("debiased CKA", "teacher", 1.0, cka_loss, _ON_TEACHER),
    "rkd": Method("relational distillation", "teacher", 25.0, relational_loss, _ON_TEACHER),
    "pkt": Method("probabilistic transfer", "teacher", 469.0, pkt_loss, _ON_TEACHER),
}


class Frozen(nnx.Variable):
    """A weight that is not trained."""


class Teacher(nnx.Module):
    """A trained classifier whose weights stay as they are.

    Args:
        classifier: in evaluation mode.
    """

    def __init__(self, classifier: Classifier):
        self._graph, state = nnx.split(classifier)
        leaves, self._tree = jax.tree.flatten(state)
        self.weights = nnx.List([Frozen(leaf) for leaf in leaves])

    def __call__(self, images: Images) -> tuple[Float[Array, "b t"], Float[Array, "b classes"]]:
        """Features and logits; no gradient reaches the images' student through them."""
        state = jax.tree.unflatten(self._tree, [weight[...] for weight in self.weights])
        classifier = nnx.merge(self._graph, state)
        features = classifier.network.features(normalize(images, classifier.preprocess))
        return features, classifier.head(features)


class Student(nnx.Module):
    """A network that learns by one method.

    Args:
        network: one that classifies.
        preprocess: gives mean and standard deviation of the pixels.
        method: a key of `METHODS`.
        width: of the target, where the method maps features to it.
        teacher: where the method has one.
        rngs: keys of the map's weights.

    Raises:
        ValueError: a method without the teacher that it needs, a teacher that nothing asks for, or
            features of width 1, which have nothing but their size to compare.
    """

    def __init__(
        self,
        network: Network,
        preprocess: Preprocess,
        method: str,
        *,
        width: int = 0,
        teacher: Teacher | None = None,
        rngs: nnx.Rngs,
    ):
        needs = METHODS[method].needs
        if (teacher is not None) != (needs == "teacher"):
            asked = "needs a teacher" if needs == "teacher" else "has no teacher"
            raise ValueError(f"method {method!r} {asked}; give one to those that do, and no other")
        if network.config.width < 2 and needs != "labels":
            raise ValueError(
                "the student has features of width 1, which have no directions to compare; give a "
                "wider one"
            )
        self.network = network
        self.preprocess = preprocess
        self.method = method
        self.teacher = teacher
        projects = PROJECTED in METHODS[method].of
        self.projection = Linear(network.config.width, width, rngs=rngs) if projects else None

    def __call__(self, images: Images) -> Float[Array, "b classes"]:
        """Logits."""
        return self.network.classify(self.network.features(normalize(images, self.preprocess)))

    def loss(self, batch: dict[str, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        """c CE + w term, of shifted and mirrored images; CE, term and accuracy apart.

        Args:
            batch: `images`, `labels`, the scalars `classify` (c) and `weight` (w), and `target`
                where the method has one.
            key: of the views.
        """
        images = crop_and_flip(key, batch["images"], padding=batch["images"].shape[1] // 8)
        dtype = jax.tree.leaves(nnx.state(self.network, nnx.Param))[0].dtype
        pixels = normalize(images, self.preprocess).astype(dtype)
        features = self.network.features(pixels)
        logits = self.network.classify(features).astype(jnp.float32)
        labels = batch["labels"]
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        metrics = {"ce": entropy, "accuracy": (logits.argmax(-1) == labels).mean()}
        value = batch["classify"] * entropy
        method = METHODS[self.method]
        if method.term is not None:
            found = {FEATURES: features, LOGITS: logits, LABELS: labels}
            if TARGET in batch:
                found[TARGET] = batch[TARGET]
            if self.projection is not None:
                found[PROJECTED] = self.projection(features)
            if self.teacher is not None:
                found[TEACHER_FEATURES], found[TEACHER_LOGITS] = self.teacher(images)
            metrics["term"] = method.term(*(found[name] for name in method.of))
            value = value + batch["weight"] * metrics["term"]
        return value, metrics


def student_loss(
    student: Student, batch: dict[str, Array], key: Array
) -> tuple[Array, dict[str, Array]]:
    """`Student.loss` as `loop.fit` wants it."""
    return student.loss(batch, key)
