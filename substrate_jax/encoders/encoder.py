"""Load an encoder by name and call it: `load_encoder("resnet50")(images)`.

Weights come from a file or folder the user names, from the package for the mini panel, or from the
Hugging Face hub (its cache first). `hf:ORG/NAME`, `hf:ORG/NAME@REVISION` and `hf:FOLDER` are
checkpoints in transformers' format, which need no record; those of texts may have options, as in
`hf:ORG/NAME?tower=text` (see `find`). Features are the pooled penultimate ones, equal to timm's
`forward_head(forward_features(x), pre_logits=True)`.
"""

import contextlib
import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.data import preprocess as preprocessing
from substrate_jax.data.modality import AnyPreprocess
from substrate_jax.data.paths import readable
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders import hub
from substrate_jax.encoders import weights as checkpoints
from substrate_jax.encoders.find import find_transformers, find_weights, options_of
from substrate_jax.encoders.networks.network import Config, Network, input_dtype, input_shape
from substrate_jax.encoders.registry import TRANSFORMERS_PREFIX, EncoderSpec, encoder_spec
from substrate_jax.encoders.transformers.format import (
    transformers_encoder,
    transformers_sha256,
)


class Encoder:
    """A frozen network: images, spectrograms of sounds or tokens of texts to features.

    Attributes:
        spec: the record in the registry.
        module: the Flax NNX module, in evaluation mode; its parameters are NumPy arrays.
        state: those parameters. A call places them on the default device, once and to stay;
            `functional` gives them as they are, for whoever places them elsewhere.
        source: name of the file or folder its weights were read from, or the hub's repository.
        sha256: hash of that file.
        revision: commit of the hub's repository, where the file lies in a hub cache.
        dtype: dtype of parameters and activations; features are float32 always.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        module: Network,
        *,
        source: str,
        sha256: str,
        revision: str | None = None,
        dtype=jnp.float32,
    ):
        self.spec = spec
        self.module = module
        self.source = source
        self.sha256 = sha256
        self.revision = revision
        self.dtype = jnp.dtype(dtype)
        graph, self.state = nnx.split(module)
        self._leaves, tree = jax.tree.flatten(self.state)
        self._merge = partial(_merge, graph, tree)
        self._features = jax.jit(self.functional()[0])
        self._taps = jax.jit(partial(_taps, self._merge, self.dtype), static_argnums=2)

    @functools.cached_property
    def _placed(self) -> list[Array]:
        return jax.device_put(self._leaves)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self.spec.name

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the output: architecture, weights, arithmetic."""
        return checkpoints.fingerprint(self.spec.config, self.sha256, self.dtype)

    def functional(self, names: Sequence[str] | None = None) -> tuple[Callable, list[Array]]:
        """A pure function `(state, images) -> features` to jit or shard, and its state to place.

        With `names` of taps the function gives a dict of them in place of the features. The state
        is a plain list: a call of a compiled function with an `nnx.State` spends up to a
        millisecond walking through it.
        """
        if names is None:
            return partial(_features, self._merge, self.dtype), self._leaves
        return partial(_taps, self._merge, self.dtype, names=tuple(names)), self._leaves

    def __call__(self, images: Float[Array, "n ..."]) -> Float[Array, "n d"]:
        """Pooled penultimate features of normalized images [n, h, w, 3], float32.

        Or of spectrograms or tokens, where the encoder is one of sounds or texts: what its
        `preprocess` gives.
        """
        self._check(images)
        return self._features(self._placed, images)

    def taps(
        self, images: Float[Array, "n ..."], names: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Intermediate arrays by module name, all from one pass; `features` is among them.

        Args:
            images: as for a call.
            names: which; all by default. `tap_names()` lists them.

        Raises:
            ValueError: a name that this network does not have.
        """
        self._check(images)
        known = self.tap_names()
        names = known if names is None else tuple(names)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(
                f"names={unknown}: {self.name} has no such tap; choose among {', '.join(known)}"
            )
        found = self._taps(self._placed, images, names)
        return {name: found[name] for name in names}  # jit returns a dict sorted by key

    def tap_names(self) -> tuple[str, ...]:
        """Every name `taps` knows, in order of computation."""
        return tuple(list_taps(self.spec.config))

    def preprocess(self, images: Sequence[Any]) -> Float[Array, "n ..."]:
        """What the weights expect, of images uint8 [h, w, 3], `data.sounds.Sound`s or strings."""
        spec = self.spec.preprocess
        if isinstance(spec, Preprocess):
            return preprocessing.preprocess(images, spec)
        return spec.finish(jnp.stack([spec.prepare(sound) for sound in images]))

    def _check(self, images) -> None:
        shape = input_shape(self.spec.config)
        if images.shape[1:] != shape:
            raise ValueError(
                f"{self.spec.modality}s of shape {images.shape}: {self.name} takes "
                f"[n, {', '.join(map(str, shape))}]; see its preprocess method"
            )


@functools.lru_cache
def list_taps(config: Config) -> Mapping[str, tuple[tuple[int, ...], str]]:
    """Every tap of a network: name -> shape of one image's activation, and the first of its names.

    Several names of one array (a stage, and its last block) are told by tracing, not by values.
    The network is traced once; the answer is kept, and read-only.

    Example:
        >>> list_taps(encoder_spec("mini_resnet50").config)["layer1"]
        ((16, 16, 64), 'layer1.0')
    """
    graph, state = nnx.split(checkpoints.abstract_module(config))
    traced: list[tuple[str, Any]] = []

    def record(state, images):
        module = nnx.merge(graph, state)
        features = module.features(images, lambda name, value: traced.append((name, value)))
        traced.append(("features", features))

    image = jax.ShapeDtypeStruct((1, *input_shape(config)), input_dtype(config, jnp.float32))
    jax.eval_shape(record, state, image)
    first: dict[int, str] = {}
    found = {
        name: (tuple(value.shape[1:]), first.setdefault(id(value), name)) for name, value in traced
    }
    return types.MappingProxyType(found)


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    *,
    dtype: jnp.dtype = jnp.float32,
    preprocess: AnyPreprocess | None = None,
) -> Encoder:
    """An encoder with its weights.

    Args:
        name: see `list_encoders()`; or hf:ORG/NAME, hf:ORG/NAME@REVISION, hf:FOLDER.
        weights: a safetensors file in timm's naming, or a folder as `substrate_jax.encoders.hub`
            describes; by default the bundled file for the mini panel and the hub's for published
            checkpoints.
        dtype: float32 or bfloat16, of parameters and activations.
        preprocess: in place of the record's.

    Returns:
        The encoder, in evaluation mode.

    Raises:
        ValueError: unknown name, weights that cannot be had, or weights that do not fit.

    Example:
        >>> encoder = load_encoder("mini_vit_base")
        >>> encoder(jnp.zeros((2, 32, 32, 3))).shape
        (2, 96)
    """
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"dtype={jnp.dtype(dtype).name}: choose float32 or bfloat16")
    record = None if name.startswith(TRANSFORMERS_PREFIX) else encoder_spec(name)
    if record is None or record.checkpoint.startswith(TRANSFORMERS_PREFIX):
        place = record.checkpoint if record else name
        path, asked = find_transformers(place, weights), options_of(place)
        sha256 = transformers_sha256(path, asked.get("tower"))
        spec, arrays = transformers_encoder(path, readable(name), asked)
        spec = spec if record is None else _agreed(record, spec)
    else:
        spec = record
        path = find_weights(spec, weights)
        sha256 = hub.checked_sha256(path, spec.sha256)
        arrays = checkpoints.read_safetensors(path)
    if preprocess is not None:
        spec = dataclasses.replace(spec, preprocess=preprocess)
    module = checkpoints.fill(
        checkpoints.abstract_module(spec.config),
        arrays,
        source=readable(path.name),
        optional_keys=spec.optional_keys,
        dtype=dtype,
    )
    module.eval()
    revision = hub.revision_of(path)
    source = readable(path.name) if revision is None else spec.checkpoint
    return Encoder(spec, module, source=source, sha256=sha256, revision=revision, dtype=dtype)


def _agreed(record: EncoderSpec, found: EncoderSpec) -> EncoderSpec:
    """The record of a checkpoint in transformers' format, which its files must agree with.

    Raises:
        ValueError: they do not.
    """
    for what in ("config", "preprocess"):
        known, read = getattr(record, what), getattr(found, what)
        if known != read:
            raise ValueError(
                f"{record.name}: its files describe another {what} ({read}) than its record "
                f"({known}); load them as hf:FOLDER"
            )
    return record


def _precision(dtype: jnp.dtype) -> contextlib.AbstractContextManager:
    # Accelerators run float32 products in fewer bits unless told otherwise.
    return jax.default_matmul_precision("highest" if dtype == jnp.float32 else "default")


def _merge(graph, tree, leaves):
    return nnx.merge(graph, jax.tree.unflatten(tree, leaves))


def _features(merge, dtype, leaves, images):
    with _precision(dtype):
        module = merge(leaves)
        features = module.features(images.astype(input_dtype(module.config, dtype)))
    return features.astype(jnp.float32)


def _taps(merge, dtype, leaves, images, names):
    found = {}
    with _precision(dtype):
        module = merge(leaves)
        images = images.astype(input_dtype(module.config, dtype))
        found["features"] = module.features(images, found.__setitem__)
    return {name: found[name].astype(jnp.float32) for name in names}
