r"""What the components of a substrate look like: correlation with hand-made features of the images.

A domain has scores s in R^{n x k} of its n images on the k components, and named features f of the
same images (`handcrafted`: 59, and the image energy, the mean squared pixel value). For every
component and feature Pearson's r, with

    interval    tanh(atanh r -+ z / sqrt(n - 3)), z the normal quantile (Fisher)
    p           two-sided, of t = r sqrt((n - 2) / (1 - r^2)) with n - 2 degrees of freedom
    q           Benjamini-Hochberg over all components and features of the domain

A feature (or a score) that is constant over the domain has no correlation: r, interval, p and q are
NaN, and it is no member of the family.

The sign of a component is that of `kernels.subspaces.pca`: its loading of largest magnitude is
positive. It is a convention. The sign of r says at which end of the component's axis the feature is
high, and does not compare between domains. Nor does the number of a component: domains order their
components by their own variances.

Cost: n k p multiplications, in float64.

Not guaranteed: p and the interval take rows as independent and roughly normal. Energies have heavy
tails, so a few images can carry an r; look at the extreme images. A small r does not say that
nothing visible is in a component, only that none of these features is.

References:
    R. Fisher, "On the probable error of a coefficient of correlation", Metron 1, 1921.
    Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from substrate_jax import kernels
from substrate_jax.analyses import paper
from substrate_jax.analyses.domains.results import ComponentCorrelations, LargestCorrelation
from substrate_jax.features.handcrafted import FEATURE_NAMES
from substrate_jax.features.image_readers import image_energy
from substrate_jax.kernels.validate import check_fraction

ENERGY = "image energy"
NAMES = (*FEATURE_NAMES, ENERGY)
PAPER = {"energy": paper.ENERGY_OF_FIRST, "others": paper.OTHER_COMPONENTS}


def correlate_components(
    scores: Float[np.ndarray, "n k"],
    images: Mapping[str, Float[np.ndarray, "n _"]],
    *,
    level: float = 0.95,
) -> ComponentCorrelations:
    """Correlations of every component of one domain with every hand-made feature.

    Args:
        scores: images on components, as `Substrate.transform` gives them.
        images: `pixels` and `handcrafted` of the same images, as
            `features.handcrafted.image_features` gives them.
        level: of the intervals.

    Returns:
        Correlations with the 60 features, hand-crafted ones in their order, then the image energy.

    Raises:
        ValueError: different numbers of rows, fewer than 4, NaN or infinity, or `level` no share.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.normal(size=(50, 2))
        >>> images = {"pixels": rng.uniform(size=(50, 12)), "handcrafted": np.zeros((50, 59))}
        >>> images["handcrafted"][:, -1] = 1 - scores[:, 1]
        >>> found = correlate_components(scores, images).largest_of_others
        >>> found.component, found.feature, round(found.correlation, 4)
        (1, 'rms contrast', -1.0)
    """
    check_fraction("level", level)
    energy = image_energy(images["pixels"])
    features = np.concatenate([images["handcrafted"], energy[:, None]], axis=1)
    kernels.check_finite([scores, features], ["scores", "features"])
    n = len(scores)
    if len(features) != n or n < 4:
        raise ValueError(
            f"scores have {n} rows, features {len(features)}: give the same images, 4 or more"
        )
    correlation = _pearson(scores, features)
    low, high, p_value = _inference(correlation, n, level)
    q_value = np.full_like(p_value, np.nan)
    family = np.isfinite(p_value)
    q_value[family] = np.asarray(kernels.benjamini_hochberg(p_value[family].astype(np.float32)))
    return ComponentCorrelations(
        features=NAMES,
        correlation=correlation,
        low=low,
        high=high,
        p_value=p_value,
        q_value=q_value,
        energy_of_first=float(correlation[0, -1]),
        largest_of_others=_largest(correlation[1:, :-1]),
        paper=PAPER,
    )


def extreme_rows(
    scores: Float[np.ndarray, "n k"], count: int
) -> tuple[Int[np.ndarray, "k c"], Int[np.ndarray, "k c"]]:
    """Rows with the highest and the lowest scores on each component, the most extreme first.

    Args:
        scores: images on components.
        count: rows at either end; half of the images at most are taken, so that none is at both.

    Returns:
        Row numbers of the top and of the bottom, c = min(count, n // 2).

    Raises:
        ValueError: `count` is below 1.

    Example:
        >>> top, bottom = extreme_rows(np.array([[3.0], [1.0], [2.0], [5.0], [4.0]]), 2)
        >>> top.tolist(), bottom.tolist()
        ([[3, 4]], [[1, 2]])
    """
    if count < 1:
        raise ValueError(f"count={count}: give at least 1")
    count = min(count, len(scores) // 2)
    order = np.argsort(-scores, axis=0, kind="stable")
    return order[:count].T, order[::-1][:count].T


def _pearson(a: Float[np.ndarray, "n k"], b: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "k p"]:
    """Correlation of every column with every other, NaN where one is constant."""
    a, b = _unit(a), _unit(b)
    return np.clip(a.T @ b, -1, 1)


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Centered columns of norm 1, NaN where a column is constant up to the rounding of float32."""
    x = np.asarray(x, np.float64)
    reach = np.ptp(x, axis=0)
    constant = reach <= 8 * np.finfo(np.float32).eps * np.abs(x).max(axis=0)
    centered = (x - x.mean(axis=0)) / np.where(constant, 1, reach)
    norm = np.linalg.norm(centered, axis=0)
    return np.where(constant, np.nan, centered / np.where(constant, 1, norm))


def _inference(correlation: Float[np.ndarray, "k p"], n: int, level: float):
    """Ends of Fisher's interval and the two-sided p-value, of correlations of n rows."""
    from scipy import special

    z = special.ndtri((1 + level) / 2) / np.sqrt(n - 3)
    with np.errstate(divide="ignore"):  # r = 1 has an interval of width 0 and p = 0
        middle = np.arctanh(correlation)
        t = np.abs(correlation) * np.sqrt((n - 2) / (1 - correlation**2))
    return np.tanh(middle - z), np.tanh(middle + z), 2 * special.stdtr(n - 2, -t)


def _largest(correlation: Float[np.ndarray, "k p"]) -> LargestCorrelation | None:
    """The entry of largest magnitude; components are counted from 1, as 0 is left out."""
    size = np.nan_to_num(np.abs(correlation), nan=-1)
    if size.size == 0 or size.max() < 0:
        return None
    component, feature = np.unravel_index(np.argmax(size), size.shape)
    return LargestCorrelation(
        correlation=float(correlation[component, feature]),
        component=int(component) + 1,
        feature=FEATURE_NAMES[feature],
    )
