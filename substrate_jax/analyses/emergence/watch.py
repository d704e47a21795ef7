"""Features of a network in training, taken by the extraction that every encoder goes through.

`WatchedNetwork` is an encoder whose weights change: its forward pass is compiled once, and each
step brings its own weights to it. What a step gives is kept in a file of its own as soon as it is
there, so that an interrupted run has lost nothing but the steps since its last checkpoint, and
takes those again to the same bits.

Features are those of evaluation mode: batch normalization uses its running means, which in the
first dozens of steps lag behind the weights.

Cost: a forward pass of all test images per watched step, and 4 n d bytes of disk for the probes'.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
from safetensors import SafetensorError, safe_open

from substrate_jax.analyses.transferability.scores.probe import probe_accuracy
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.data.sources import Source
from substrate_jax.data.tensors import tensor_bytes
from substrate_jax.encoders.networks.network import Network
from substrate_jax.features import extract
from substrate_jax.features.protocol import PlainSpec
from substrate_jax.report.writing import write_file
from substrate_jax.training.labeled_images import LabeledImages


class WatchedNetwork:
    """A network in training as extraction takes it; see `features.protocol.Extractor`.

    Args:
        network: in evaluation mode; later ones have its shape.
        name: of its features.
        preprocess: gives size, mean and deviation of the images.
    """

    dtype = jnp.dtype(jnp.float32)

    def __init__(self, network: Network, name: str, preprocess: Preprocess):
        self.spec = PlainSpec(name, network.config.width, preprocess)
        graph, state = nnx.split(network)
        leaves, tree = jax.tree.flatten(state)
        self._function = partial(_features, graph, tree)
        self._state = _on_host(leaves)

    def update(self, network: Network) -> None:
        """Take the weights of a later step."""
        self._state = _on_host(jax.tree.leaves(nnx.state(network)))

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        found = hashlib.sha256()
        for leaf in self._state:
            found.update(leaf.tobytes())
        return found.hexdigest()

    def functional(self) -> tuple[Callable[[Any, Array], Array], list[np.ndarray]]:
        """`(weights, images) -> features`, which stays, and the weights of now."""
        return self._function, self._state


def _on_host(leaves: list[Array]) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in leaves]


def _features(graph, tree, leaves, images: Float[Array, "n s s 3"]) -> Float[Array, "n d"]:
    with jax.default_matmul_precision("highest"):
        return nnx.merge(graph, jax.tree.unflatten(tree, leaves)).features(images)


@dataclasses.dataclass(frozen=True, eq=False)
class Watched:
    """What a network gives at one step.

    Attributes:
        features: [p, d] of the probe images.
        accuracy: of its classifier on all test images, in [0, 1]; NaN where it learns no labels.
        probe_accuracy: of a ridge probe on its features of all test images, cross-validated; NaN
            where a class has a single test image, or features are constant.
    """

    features: Float[np.ndarray, "p d"]
    accuracy: float
    probe_accuracy: float

    def save(self, path: Path) -> None:
        """Write as safetensors; the file appears whole or not at all."""
        found = {"accuracy": self.accuracy, "probe_accuracy": self.probe_accuracy}
        path.parent.mkdir(parents=True, exist_ok=True)
        said = {"measured": json.dumps(found)}
        write_file(path, tensor_bytes({"features": self.features}, said))

    @classmethod
    def load(cls, path: Path) -> "Watched":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is absent or damaged; delete the run's folder.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                return cls(file.get_tensor("features"), **json.loads(file.metadata()["measured"]))
        except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{str(path)!r}: no features of this step ({error}); delete the folder of "
                "checkpoints, so that it is trained again, or give another --out"
            ) from error


def kept_images(images: LabeledImages) -> Source:
    """Images that were read, as a source: extraction then decodes none."""
    source = images.source
    return dataclasses.replace(source, read=lambda row: images.images[row])


def probe_rows(labels: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " p"]:
    """Rows of the probe images: all classes in turn, in the order of the rows.

    Raises:
        ValueError: more than there are.

    Example:
        >>> probe_rows(np.array([0, 0, 0, 1, 1, 1]), 4).tolist()
        [0, 1, 3, 4]
    """
    if count > len(labels):
        raise ValueError(f"probe_images={count}: there are {len(labels)} test images; ask for less")
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        (rows,) = np.nonzero(labels == label)
        ranks[rows] = np.arange(len(rows))
    return np.sort(np.lexsort((labels, ranks))[:count])


class Watcher:
    """Takes features and accuracies at the steps of a training.

    Args:
        folder: where what is found is kept, a folder per training.
        test: images that accuracies are of.
        probes: rows of them whose features are kept.
        preprocess: of the images.
        mesh: where features are computed.
        batch_size: images at once.
    """

    def __init__(
        self,
        folder: Path,
        test: LabeledImages,
        probes: Int[np.ndarray, " p"],
        preprocess: Preprocess,
        *,
        mesh: Mesh | None = None,
        batch_size: int = 64,
    ):
        self.folder, self.test, self.probes = folder, test, probes
        self.preprocess, self.mesh, self.batch_size = preprocess, mesh, batch_size
        self._source = kept_images(test)
        self._encoder: WatchedNetwork | None = None

    def path(self, training: str, step: int) -> Path:
        """Where a step of a training is kept."""
        return self.folder / training / f"{step:08d}.safetensors"

    def watch(self, training: str, step: int, network: Network, *, classifies: bool) -> None:
        """Take and keep what a network gives; what is there already stays, as it is the same.

        Args:
            training: its name.
            step: after so many.
            network: in evaluation mode.
            classifies: whether its classifier is trained.

        Raises:
            ValueError: features that are not finite, as training has run away.
        """
        path = self.path(training, step)
        if path.is_file():
            return
        if self._encoder is None:
            self._encoder = WatchedNetwork(network, "student", self.preprocess)
        self._encoder.update(network)
        try:
            found = extract(
                [self._encoder], self._source, mesh=self.mesh, batch_size=self.batch_size
            )
        except ValueError as error:
            raise ValueError(
                f"{training}: no finite features after step {step}; lower the learning rate, in "
                "another folder"
            ) from error
        features = np.asarray(found["student"])
        accuracy = float("nan")
        if classifies:
            logits = np.asarray(network.classify(jnp.asarray(features)))
            accuracy = float((logits.argmax(-1) == self.test.labels).mean())
        Watched(features[self.probes], accuracy, self._probe(features)).save(path)

    def _probe(self, features: Float[np.ndarray, "n d"]) -> float:
        _, codes, counts = np.unique(self.test.labels, return_inverse=True, return_counts=True)
        if len(counts) < 2 or counts.min() < 2:
            return float("nan")
        return probe_accuracy(features, codes)
