"""Figures for notebooks and papers: those that reports hold, as figures of Matplotlib."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from substrate_jax.report import heatmaps

__all__ = ["heatmap"]


def heatmap(
    matrix: Float[np.ndarray, "m m"],
    names: Sequence[str],
    *,
    quantity: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    tree: bool = True,
) -> Figure:
    """A symmetric matrix of similarities as colored cells, what is alike side by side.

    Rows stand in the order of the leaves of an average-linkage tree on 1 - S. The diagonal is gray,
    NaN a white cell with a dash. A notebook shows the figure; `.savefig(path)` writes it.

    Args:
        matrix: [m, m], NumPy or JAX, such as of `kernels.pairwise_cka`.
        names: of the m rows.
        quantity: what the colors stand for.
        limits: values of the first and the last color; those beyond take the nearer color.
        tree: whether rows are put in order, and the tree drawn; else they stand as given.

    Raises:
        ValueError: the matrix is not m x m for m names.

    Example:
        >>> figure = heatmap(np.array([[1.0, 0.3], [0.3, 1.0]]), ["one", "two"], quantity="CKA")
        >>> bool(figure.get_figwidth() > 1)
        True
    """
    matrix = np.asarray(matrix, np.float64)
    square = matrix.shape == (len(names), len(names)) and len(names) > 0
    return heatmaps.heatmap(
        matrix,
        names,
        quantity=quantity,
        limits=limits,
        size=heatmaps.LARGE,
        tree=heatmaps.cluster(matrix) if tree and square else None,
        draw_tree=tree,
    )
