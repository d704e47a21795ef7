"""The target of a data set, computed once: a row of scores for every image, kept by its id.

With Y the scores of n images and C their covariance, `norm` is ||C|| (Frobenius) by the unbiased
estimate of HSIC of Y with itself, and `variance` is tr C. A batch drawn from the images has a norm
of its own, whose square is norm^2 on average (a mean over sets of four different rows, as the
estimate is, has that of all images as its expectation). It is the denominator of the batch's CKA,

    CKA_b = HSIC_b(f, y) / (norm_b(f) norm_b(y)),

so that a batch in which the target hardly varies counts as much as one in which it does. CKA_b
times `weight`, norm_b(y) / norm, has the norm of all images in its place. That is right where
batches differ in the target alone: with labels of 100 classes in batches of 16, of which a quarter
hold no class twice, the mean CKA_b is .19, weighted .23, and the CKA of all images .24. It is wrong
where features are large in the batches in which the target is: with heavy tails (t of 3 degrees,
batches of 32) .97, weighted .81, and .98. For the CKA of all images, `kernels.StreamingCka`.

For a squared error the unit is `scale`: divided by it, the target has a variance of 1 per column on
average, and a mean squared error of 1 is that of a prediction by the mean.

`variance`^2 / `norm`^2 is the number of directions that the target has, were all alike.
"""

import collections
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int64

from substrate_jax import kernels
from substrate_jax.data.paths import first_of, readable
from substrate_jax.features import Features
from substrate_jax.features.constant import constant_blocks
from substrate_jax.features.files import FileRows, match_rows
from substrate_jax.features.files.contents import texts
from substrate_jax.kernels.arithmetic import AnyArray, root
from substrate_jax.losses.batch import check_pair
from substrate_jax.substrate import Substrate

_LEAST = 4  # rows that debiasing needs
_BLOCK = "scores"
_ROWS = 4096  # stacked at once: of a panel of 15,464 features 250 MB
_DRAWN = 100  # batches looked at

Ids = Sequence[str] | Sequence[int] | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class SubstrateTarget:
    """Scores of the images of a data set by their ids, with their norm over it.

    Attributes:
        ids: of the images, unique.
        scores: float32 [n, k], on the host; row i belongs to ids[i].
        norm: Frobenius norm of the scores' covariance (unbiased), above 0.
        variance: its trace, the mean squared distance from the mean (over n - 1), above 0.

    Example:
        >>> labels = np.array([0, 1, 0, 1, 1])
        >>> target = SubstrateTarget.from_scores(np.eye(2)[labels], list("abcde"))
        >>> target.scores[target.rows(["c", "b"])].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        >>> target.k, round(target.norm, 4), round(target.variance, 4)
        (2, 0.6325, 0.6)
    """

    ids: tuple[str, ...]
    scores: Float32[np.ndarray, "n k"]
    norm: float
    variance: float

    @classmethod
    def from_scores(cls, scores: Float[AnyArray, "n k"], ids: Ids) -> "SubstrateTarget":
        """A target of any numbers: one-hot labels, components of one encoder, shuffled scores.

        Args:
            scores: [n, k] numbers or truth values, n >= 4.
            ids: of the rows, texts or whole numbers, each once.

        Raises:
            ValueError: no matrix of numbers, another number of ids than rows, an id more than once,
                fewer than 4 rows, NaN or infinity (by the ids), scores that are the same for all
                images, or images that are all equally far apart, as one-hot labels are where no
                class has two images: no batch could tell anything.

        Example:
            >>> SubstrateTarget.from_scores(np.ones((5, 2)), list("abcde"))
            Traceback (most recent call last):
                ...
            ValueError: scores are the same for all 5 images: a network can learn nothing from them
        """
        block = FileRows(np.asarray(scores), None, _BLOCK)
        named = _unique(ids, "the target")
        if len(block) != len(named):
            raise ValueError(f"scores have {len(block)} rows for {len(named)} ids: give one each")
        if len(block) < _LEAST:
            raise ValueError(f"scores of {len(block)} images: give those of {_LEAST} or more")
        block.check_finite(named)
        values = np.ascontiguousarray(np.asarray(block))
        if constant_blocks({_BLOCK: values}):
            raise ValueError(
                f"scores are the same for all {len(values)} images: a network can learn nothing "
                "from them"
            )
        norm, variance = _norm_and_variance(values)
        return cls(named, values, norm, variance)

    @classmethod
    def from_substrate(cls, substrate: Substrate, features: Features) -> "SubstrateTarget":
        """The scores of images on a substrate's components.

        Args:
            substrate: fitted, on these images or on others.
            features: of its encoders, with the ids of the images. Rows are read in parts.

        Raises:
            ValueError: other encoders or widths than the fitted ones, and as in `from_scores`.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
            >>> features = Features(tuple(map(str, range(40))), None, {"one": x, "two": 1 - x**2})
            >>> target = SubstrateTarget.from_substrate(Substrate.fit(features, k=3), features)
            >>> target.scores.shape
            (40, 3)
        """
        parts = []
        for start in range(0, len(features.ids), _ROWS):
            part = {name: block[start : start + _ROWS] for name, block in features.items()}
            parts.append(np.asarray(substrate.transform(part)))
        if not parts:
            raise ValueError("features have no rows: give those of 4 images or more")
        return cls.from_scores(np.concatenate(parts), features.ids)

    @property
    def k(self) -> int:
        """Scores per image."""
        return self.scores.shape[1]

    @property
    def scale(self) -> float:
        """Root of the mean variance of the scores: what to divide them by for a squared error."""
        return math.sqrt(self.variance / self.k)

    @property
    def dimensions(self) -> float:
        """variance^2 / norm^2: directions of equal variance that have the same two."""
        return (self.variance / self.norm) ** 2

    def rows(self, ids: Ids) -> Int64[np.ndarray, " m"]:
        """The rows of the images of a training set, by their ids and in their order.

        Args:
            ids: texts or whole numbers, each once.

        Raises:
            ValueError: ids that the target lacks, or that are given more than once; how many, and
                the first ten.

        Example:
            >>> target = SubstrateTarget.from_scores(np.eye(2)[[0, 1, 0, 1]], range(4))
            >>> target.rows([3, 0])
            array([3, 0])
            >>> target.rows(["0", "7", "8"])
            Traceback (most recent call last):
                ...
            ValueError: the target lacks 2 of the 3 rows of the training set: 7, 8; it has ids such
            as 0
        """
        return match_rows(
            self.ids, _unique(ids, "the training set"), "the target", "the training set"
        )

    def weight(
        self,
        scores: Float[AnyArray, "b k"],
        *,
        axis_name=None,
        mask: Bool[AnyArray, " b"] | None = None,
    ) -> Float[Array, ""]:
        """Norm of a batch's scores over that of all: its square is 1 on average over batches.

        It says how much of the target's variation a batch holds; the module says when to multiply
        its CKA by it.

        Args:
            scores: [b, k] rows of `self.scores`.
            axis_name: mesh axis that the rows are sharded over, if any.
            mask: [b] rows that count.

        Returns:
            A scalar, 0 or more; 0, or rounding, where all are alike or equally far apart.

        Raises:
            ValueError: scores that are no floating-point matrix, or fewer than 4 rows.

        Example:
            >>> target = SubstrateTarget.from_scores(np.eye(2)[[0, 1, 0, 1, 0]], range(5))
            >>> round(float(target.weight(target.scores)), 4)
            1.0
        """
        check_pair({"scores": scores}, mask, axis_name, least=_LEAST, what="a weight")
        hsic = kernels.pairwise_hsic([scores], mask=mask, axis_name=axis_name)
        count = hsic.count.astype(hsic.scale.dtype)
        unit = (hsic.scale[0] / math.sqrt(self.norm)) ** 2  # first, as high powers overflow
        return root(hsic.debiased()[0, 0] / (count * (count - 3))) * unit

    def check_batch(self, rows: int, *, seed: int = 0) -> float:
        """Whether batches of so many rows can tell a CKA loss anything of this target.

        More scores than rows are no fault by themselves: CKA compares distances between images, and
        substrates have a few large directions. What tells nothing is a batch whose images are all
        equally far apart in the target, as with one-hot labels and no class twice, or all alike:
        there the debiased loss is 1 with a zero gradient, and the biased one asks for features that
        spread the batch evenly, whatever it holds.

        Args:
            rows: of a batch, over all devices.
            seed: of the 100 random batches that are looked at.

        Returns:
            The share of them that tell nothing, at most half.

        Raises:
            ValueError: it is above half, or `rows` is below 4 or above the number of images.

        Example:
            >>> target = SubstrateTarget.from_scores(np.eye(50)[np.arange(100) // 2], range(100))
            >>> target.check_batch(32)
            0.0
            >>> target.check_batch(5)
            Traceback (most recent call last):
                ...
            ValueError: batches of 5 rows: in 94 of 100 drawn at random all images are equally far
            apart in the target of k=50 scores, and a CKA loss learns nothing; give larger batches,
            or fewer scores
        """
        if not _LEAST <= rows <= len(self.ids):
            raise ValueError(
                f"batches of {rows} rows: give {_LEAST} to {len(self.ids)}, the images of the "
                "target"
            )
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(len(self.ids), rows, replace=False) for _ in range(_DRAWN)]
        empty = int(_tells_nothing(jnp.asarray(self.scores[np.stack(drawn)])).sum())
        if 2 * empty > _DRAWN:
            raise ValueError(
                f"batches of {rows} rows: in {empty} of {_DRAWN} drawn at random all images are "
                f"equally far apart in the target of k={self.k} scores, and a CKA loss learns "
                "nothing; give larger batches, or fewer scores"
            )
        return empty / _DRAWN

    def save(self, path: str | os.PathLike) -> None:
        """Write as safetensors, a file of features; it appears whole or not at all.

        Raises:
            ValueError: a path that does not end in .safetensors, or that cannot be written.
        """
        if Path(path).suffix != ".safetensors":
            raise ValueError(f"{readable(os.fspath(path))}: give a path that ends in .safetensors")
        Features(self.ids, None, {_BLOCK: self.scores}).write(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SubstrateTarget":
        """Read what `save` wrote, or any file of features that holds one block.

        Args:
            path: as `Features.read` takes it.

        Raises:
            ValueError: a file that cannot be read or holds several blocks, and as in `from_scores`.
        """
        features = Features.read(path)
        if len(features) != 1:
            raise ValueError(
                f"{readable(os.fspath(path))} holds {len(features)} blocks ({first_of(features)}): "
                "give a file of one, the target"
            )
        (block,) = features.values()
        return cls.from_scores(np.asarray(block), features.ids)


def _unique(ids: Ids, whose: str) -> tuple[str, ...]:
    """Ids as texts, each once."""
    named = tuple(texts(ids if isinstance(ids, np.ndarray) else list(ids), whose, "ids"))
    if len(set(named)) < len(named):
        twice = [one for one, times in collections.Counter(named).items() if times > 1]
        raise ValueError(
            f"{whose} has {len(twice)} of its ids more than once: {first_of(twice)}; give every "
            "image once"
        )
    return named


def _norm_and_variance(scores: Float32[np.ndarray, "n k"]) -> tuple[float, float]:
    """||C|| by the unbiased estimate, and tr C."""
    n = len(scores)
    hsic = jax.jit(kernels.pairwise_hsic)([scores])
    if np.isnan(hsic.cka(debiased=True)[0, 0]):
        raise ValueError(
            f"scores of all {n} images are equally far apart, and say which image is like which of "
            "none; give labels that images share, or components"
        )
    unit = float(hsic.scale[0]) ** 2
    return unit * math.sqrt(float(hsic.debiased()[0, 0]) / (n * (n - 3))), unit / (n - 1)


@jax.jit
def _tells_nothing(batches: Float[Array, "m b k"]) -> Bool[Array, " m"]:
    """Which batches have no debiased norm."""

    def one(batch):
        hsic = kernels.pairwise_hsic([batch])
        return jnp.isnan(hsic.cka(debiased=True)[0, 0]) | (hsic.scale[0] == 0)

    return jax.lax.map(one, batches)
