"""How far tau of the closed form is from that of sampled permutations.

    python -m tests.golden.check_null_tail                      # 100,000 permutations
    python -m tests.golden.check_null_tail --draws=2000 --rows=60

Two independent encoders of 8 features of standard deviations i^-1/2, with Gaussian rows, their
cubes (heavy-tailed) and clustered rows. Printed for each, in percent of the sampled tau: the error
of tau of linear CKA with the exact skewness and with that of a gamma on [0, inf), and of mutual
kNN recall at k = 10, at every level; and the standard error of the sampled tau of CKA.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jaxtyping import Float

from substrate_jax import kernels
from tests.helpers import KINDS_OF_ROWS, random_rows

FLAGS = flags.FLAGS
flags.DEFINE_integer("draws", 100_000, "Permutations.", lower_bound=1000)
flags.DEFINE_multi_integer("rows", [60, 500], "Rows of each encoder.")

LEVELS = (0.05, 0.01, 0.001)
WIDTH, K = 8, 10
CHUNK = 5000  # draws at once


@jax.jit
def cka_draws(blocks, key):
    """CKA of the pair under `CHUNK` permutations."""
    return kernels.permutation_null(blocks, key, permutations=CHUNK)[0][:, 0, 1]


@jax.jit
def calibrations(blocks):
    """Calibrations of all kinds at all levels."""
    hsic = kernels.pairwise_hsic(blocks, cubic=True)
    shared = kernels.mutual_knn(blocks, (K,))
    found = {"knn": [kernels.calibrate_mutual_knn(shared, alpha=alpha) for alpha in LEVELS]}
    for skewness in ("exact", "gamma"):
        found[skewness] = [
            kernels.calibrate_cka(hsic, alpha=alpha, skewness=skewness) for alpha in LEVELS
        ]
    return {
        kind: jnp.stack([each.tau[..., 0, 1].ravel()[0] for each in of])
        for kind, of in found.items()
    }


def sampled_cka(blocks, draws: int) -> Float[np.ndarray, " draws"]:
    """CKA under random permutations of the rows of the second encoder."""
    chunks = range(-(-draws // CHUNK))
    return np.concatenate([cka_draws(blocks, jax.random.key(chunk)) for chunk in chunks])[:draws]


def sampled_recall(blocks, draws: int, seed: int = 0) -> Float[np.ndarray, " draws"]:
    """Mutual kNN recall under random permutations, edge by edge."""
    first, second = (np.asarray(kernels.nearest_neighbors(x, K)) for x in blocks)
    n, rng = len(first), np.random.default_rng(seed)
    edges = np.zeros((n, n), bool)
    np.put_along_axis(edges, second, True, axis=1)
    found = np.empty(draws)
    for draw in range(draws):
        order = rng.permutation(n)
        found[draw] = edges[order[:, None], order[first]].mean()
    return found


def main(argv: list[str]) -> None:
    """A line for each number and kind of rows."""
    print(f"{FLAGS.draws:,} permutations; error of tau in percent at {LEVELS}")
    columns = ("CKA, exact", "CKA, gamma", f"{K}-NN", "standard error")
    print(f"{'rows':14s}" + "".join(f"{name:>22s}" for name in columns))
    for n in FLAGS.rows:
        for kind in KINDS_OF_ROWS:
            rng = np.random.default_rng(n)
            blocks = [jnp.asarray(random_rows(rng, n, WIDTH, kind)) for _ in range(2)]
            tau = {name: np.asarray(values) for name, values in calibrations(blocks).items()}
            at = [1 - level for level in LEVELS]
            draws = sampled_cka(blocks, FLAGS.draws)
            cka = np.quantile(draws, at)
            recall = np.quantile(sampled_recall(blocks, FLAGS.draws), at)
            # Between the order statistics one standard deviation of their rank apart.
            spread = np.sqrt(np.array(LEVELS) * at / FLAGS.draws)
            error = np.quantile(draws, np.minimum(at + spread, 1)) / cka - 1
            parts = (tau["exact"] / cka - 1, tau["gamma"] / cka - 1, tau["knn"] / recall - 1, error)
            cells = ["".join(f"{100 * value:7.1f}" for value in part) for part in parts]
            print(f"{n} {kind:10s}" + "".join(f"{cell:>22s}" for cell in cells), flush=True)


if __name__ == "__main__":
    app.run(main)
