"""Losses on the logits of a teacher: knowledge distillation, and the same decoupled (DKD).

Published code differs: torchdistill's KD leaves out the square of the temperature where it has no
labels. RepDistiller's has it, as we do: gradients then keep their size as the temperature rises.
mdistiller's DKD takes the logarithm of a sum of probabilities, which is NaN where a network is sure
beyond rounding, and leaves the label's class out by subtracting 1,000; here both are logarithms of
sums of exponentials, right at any logits.

References:
    G. Hinton, O. Vinyals, J. Dean (2015), Distilling the knowledge in a neural network,
    arXiv:1503.02531.
    B. Zhao, Q. Cui, R. Song, Y. Qiu, J. Liang (2022), Decoupled knowledge distillation,
    arXiv:2203.08679.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from substrate_jax.kernels.arithmetic import AnyArray
from substrate_jax.kernels.jit_over import jit_over
from substrate_jax.kernels.validate import check_array
from substrate_jax.losses.batch import check_pair, mean_of_rows, ready


@jit_over("logits", "target", "mask")
def kd_loss(
    logits: Float[AnyArray, "b c"],
    target: Float[AnyArray, "b c"],
    *,
    temperature: float = 4.0,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """Divergence of a network's classes from a teacher's, both softened by a temperature (KD).

        T^2 mean_i KL(softmax(t_i / T) || softmax(s_i / T))

    Args:
      logits: s, [b, c] of the network that is trained.
      target: t, [b, c] of the teacher on the same images; no gradient flows into it. A class of
        -inf is one that it rules out.
      temperature: T, above 0.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar, 0 or more.

    Raises:
      ValueError: inputs that are no floating-point matrices of one shape, or a temperature that is
        not above 0.

    Example:
      >>> teacher = jnp.array([[4.0, 0.0, 0.0]])
      >>> float(kd_loss(teacher + 5, teacher)), round(float(kd_loss(0 * teacher, teacher)), 4)
      (0.0, 1.9726)
    """
    _check(logits, target, temperature, mask, axis_name, "a KD loss")
    softened = [_softened(x, temperature) for x in ready(logits, target, mask)]
    s, t = map(jax.nn.log_softmax, softened)
    return temperature**2 * mean_of_rows(_divergence(t, s), mask, axis_name)


@jit_over("logits", "target", "labels", "mask")
def decoupled_kd_loss(
    logits: Float[AnyArray, "b c"],
    target: Float[AnyArray, "b c"],
    labels: Int[AnyArray, " b"],
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """KD in two parts: the label's class against all others, and the others among themselves (DKD).

        T^2 mean_i [ alpha KL(b(t_i) || b(s_i)) + beta KL(o(t_i) || o(s_i)) ]

    with b the probabilities of the label's class and of not that class, and o those of the other
    classes given that it is one of them, both of logits / T. KD is alpha = 1 and beta the teacher's
    probability of the other classes, which is near 0 where it is sure. Its authors choose beta by
    the teacher: 2, 6 and 8 on CIFAR-100 in their code.

    Args:
      logits: s, [b, c] of the network that is trained.
      target: t, [b, c] of the teacher on the same images; no gradient flows into it.
      labels: [b] in [0, c).
      alpha: weight of the label's class.
      beta: weight of the others.
      temperature: T, above 0.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar, 0 or more; NaN where a label that counts is no class.

    Raises:
      ValueError: logits that are no floating-point matrices of one shape of 2 or more classes,
        labels that are no whole numbers of as many rows, or a temperature that is not above 0.

    Example:
      >>> teacher = jnp.array([[4.0, 0.0, 1.0]])
      >>> labels = jnp.array([0])
      >>> float(decoupled_kd_loss(teacher + 5, teacher, labels))
      0.0
      >>> round(float(decoupled_kd_loss(0 * teacher, teacher, labels)), 4)
      2.4763
    """
    _check(logits, target, temperature, mask, axis_name, "a decoupled KD loss")
    rows, classes = logits.shape
    if classes < 2:
        raise ValueError(f"logits have {classes} class: a decoupled KD loss needs 2 or more.")
    check_array("labels", labels)
    if labels.shape != (rows,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels must be whole numbers of shape ({rows},), got {labels.dtype} of shape "
            f"{labels.shape}: give the class of each row."
        )
    labels = jnp.asarray(labels)
    is_label = labels[:, None] == jnp.arange(classes, dtype=labels.dtype)[None]
    parts = [_parts(_softened(x, temperature), is_label) for x in ready(logits, target, mask)]
    (s_label, s_others), (t_label, t_others) = parts
    value = alpha * _divergence(t_label, s_label) + beta * _divergence(t_others, s_others)
    value = jnp.where(jnp.any(is_label, axis=1), value, jnp.nan)
    return temperature**2 * mean_of_rows(value, mask, axis_name)


def _softened(logits: Float[Array, "b c"], temperature: float) -> Float[Array, "b c"]:
    """Logits less the row's largest, over the temperature.

    In this order: a quotient that XLA computes twice may differ by a unit in the last place, which
    at logits of 1e10 is more than an exponential holds.
    """
    return (logits - jax.lax.stop_gradient(jnp.max(logits, 1, keepdims=True))) / temperature


def _parts(
    logits: Float[Array, "b c"], is_label: Bool[Array, "b c"]
) -> tuple[Float[Array, "b 2"], Float[Array, "b c"]]:
    """Log-probabilities of the label's class and of all others, and of each of the others."""
    others = jnp.where(is_label, -jnp.inf, logits)
    among = jax.nn.log_softmax(others)
    label = jnp.sum(jnp.where(is_label, logits, 0), axis=1)
    both = jnp.stack([label, jax.nn.logsumexp(others, axis=1)], axis=1)
    return jax.nn.log_softmax(both), among


def _divergence(log_p: Float[Array, "b c"], log_q: Float[Array, "b c"]) -> Float[Array, " b"]:
    """KL(p || q) of each row; a class without probability in p adds nothing."""
    p = jnp.exp(log_p)
    none = p == 0
    change = jnp.where(none, 0, log_p) - jnp.where(none, 0, log_q)
    return jnp.sum(p * change, axis=1)


def _check(logits, target, temperature: float, mask, axis_name, what: str) -> None:
    given = {"logits": logits, "target": target}
    same = "give the teacher's logits for the same classes"
    check_pair(given, mask, axis_name, least=1, what=what, same_width=same)
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: give one above 0, such as 4.")
