"""One process of test_kernels_processes.py: kernels on rows shared out over all processes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from substrate_jax import kernels
from substrate_jax import mesh as meshes
from substrate_jax.processes import initialize_distributed
from tests.multiprocess import processes

ROWS, WIDTHS, K = 48, (5, 9, 7), 3
# Beside sums and the ring of the kernels below: what is factored, and all rows gathered.
FEW = ("procrustes", "rsa")


def sample(rows=ROWS):
    rng = np.random.default_rng(0)
    common = rng.standard_normal((rows, 4))
    blocks = [common @ rng.standard_normal((4, d)) + rng.standard_normal((rows, d)) for d in WIDTHS]
    return [(block + 3).astype(np.float32) for block in blocks]


def streamed(state, give):
    """A state updated with two halves of every device's rows, and merged with itself moved on."""

    def run(blocks, axis_name):
        half = blocks[0].shape[0] // 2
        parts = [[block[:half] for block in blocks], [block[half:] for block in blocks]]
        first, second = (state.update(give(part), axis_name=axis_name) for part in parts)
        return first.merge(second)

    return run


def everything(blocks, axis_name=None, names=FEW):
    """Results by name, the same on all devices."""
    hsic = kernels.pairwise_hsic(blocks, axis_name=axis_name, space="gram", cubic=True)
    feature = kernels.pairwise_hsic(blocks, axis_name=axis_name, space="feature")
    shared = kernels.mutual_knn(blocks, (K,), axis_name=axis_name)
    found = kernels.pca(blocks[0], 2, axis_name=axis_name)
    cka = streamed(kernels.StreamingCka.init(WIDTHS), list)(blocks, axis_name)
    sketch = streamed(kernels.StreamingPca.init(WIDTHS[1], 2), lambda part: part[1])
    measures = {
        name: kernels.pairwise_measure(name, blocks, axis_name=axis_name)
        for name in names
        if kernels.rows_needed(name) <= ROWS
    }
    return measures | {
        "gram": hsic.cka(),
        "feature": feature.cka(debiased=True),
        "tau": kernels.calibrate_cka(hsic).tau,
        "recall": shared.recall,
        "knn tau": kernels.calibrate_mutual_knn(shared).tau,
        "components": found.components,
        "streamed": cka.finalize(),
        "streamed debiased": cka.finalize(debiased=True),
        "sketched variance": sketch(blocks, axis_name).finalize().explained_variance,
    }


def main():
    given = processes.arguments()
    initialize_distributed(given.coordinator, given.num_processes, given.process_id)
    mesh = meshes.make_mesh()
    over_rows = NamedSharding(mesh, PartitionSpec(meshes.DATA_AXIS))
    blocks = [
        jax.make_array_from_callback(
            block.shape, over_rows, lambda index, block=block: block[index]
        )
        for block in map(jnp.asarray, sample(given.rows or ROWS))
    ]

    def run(blocks):
        return everything(blocks, meshes.DATA_AXIS, given.measures or FEW)

    rows, everywhere = PartitionSpec(meshes.DATA_AXIS), PartitionSpec()
    found = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=rows, out_specs=everywhere))(blocks)
    arrays = {name: np.asarray(value) for name, value in found.items()}
    np.savez(given.folder / f"kernels{given.process_id}.npz", **arrays)


if __name__ == "__main__":
    main()
