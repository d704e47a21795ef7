"""The table of sharded programs: each as a jitted function and the shapes of what it takes.

Nothing is computed and no weights are read: arguments are shapes with their places on the mesh. A
new kernel is a line of `PROGRAMS`; measures and encoders come from their own tables.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from substrate_jax import kernels
from substrate_jax.mesh import DATA_AXIS, EVERYWHERE, ROWS, over_rows

GROUPS = ("extraction", "measures", "nulls", "streaming", "substrates", "training")
KS = (10, 30, 100)
PERMUTATIONS = 200
DRAWS = 100
CLASSES = 100
STUDENTS = ("resnet18", "convnext_atto", "vit_tiny", "mini_vit_tiny")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes that programs are compiled for.

    Attributes:
        mesh: of a pod's devices.
        rows: images of a comparison, n.
        widths: of the encoders.
        batch: images on each device at once, in extraction, streams and training.
        dtype: of the networks.
        components: of a substrate, k.
        domains: of a PCKA.
    """

    mesh: Mesh
    rows: int
    widths: tuple[int, ...]
    batch: int
    dtype: str
    components: int = 16
    domains: int = 4

    @property
    def devices(self) -> int:
        """That rows are split over."""
        return self.mesh.shape[DATA_AXIS]

    def array(self, shape, dtype: Any = "float32", spec=ROWS) -> jax.ShapeDtypeStruct:
        """The shape of an argument and where it lies."""
        return jax.ShapeDtypeStruct(
            shape, jnp.dtype(dtype), sharding=NamedSharding(self.mesh, spec)
        )

    def everywhere(self, tree) -> Any:
        """The shapes of a tree, with a copy on every device."""
        sharding = NamedSharding(self.mesh, EVERYWHERE)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    def blocks(self, rows: int | None = None) -> list[jax.ShapeDtypeStruct]:
        """Features of all encoders."""
        rows = self.padded if rows is None else rows
        return [self.array((rows, width)) for width in self.widths]

    @property
    def padded(self) -> int:
        """Rows filled up to as many on each device."""
        return self.rows + -self.rows % self.devices

    def mask(self, rows: int | None = None) -> jax.ShapeDtypeStruct:
        """Which rows count."""
        return self.array((self.padded if rows is None else rows,), bool)


Made = tuple[Any, tuple]  # a jitted function and its arguments
Make = Callable[[Setting], Made]


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that runs on a pod.

    Attributes:
        name: unique.
        group: one of `GROUPS`.
        make: its function and arguments in a setting.
        gathers: whether every device holds all rows, as its docstring and docs/scaling.md say.
    """

    name: str
    group: str
    make: Make
    gathers: bool = False


def on_blocks(function: Callable) -> Make:
    """Of `function(blocks, mask, axis_name)`, what it gives being the same everywhere."""

    def make(setting: Setting) -> Made:
        def run(blocks, mask):
            return function(blocks, mask=mask, axis_name=DATA_AXIS)

        return over_rows(run, setting.mesh, ROWS), (setting.blocks(), setting.mask())

    return make


def _measure(name: str) -> Callable:
    def run(blocks, **options):
        return kernels.pairwise_measure(name, blocks, **options)

    return run


def _cka(blocks, **options):
    hsic = kernels.pairwise_hsic(blocks, **options)
    return hsic.cka(), hsic.cka(debiased=True), kernels.calibrate_cka(hsic)


def _mutual_knn(blocks, **options):
    return kernels.calibrate_mutual_knn(blocks, KS, **options)


def _sampled(calibrate: Callable, *arguments) -> Callable:
    def run(blocks, **options):
        return calibrate(
            blocks,
            *arguments,
            method="permutation",
            permutations=PERMUTATIONS,
            key=jax.random.key(0),
            **options,
        )

    return run


def resampled(name: str) -> Callable:
    """A measure of resampled rows, as intervals take it."""

    def run(blocks, **options):
        return kernels.resampled(name, blocks, jax.random.key(0), draws=DRAWS, **options)

    return run


def _stream(init: Callable[[Setting], Any], batch: Callable[[Setting], Any]) -> Make:
    """The update of a stream by one batch; the state is given away."""

    def make(setting: Setting) -> Made:
        def update(state, batch, mask):
            return state.update(batch, mask, axis_name=DATA_AXIS)

        mapped = jax.shard_map(
            update,
            mesh=setting.mesh,
            in_specs=(EVERYWHERE, ROWS, ROWS),
            out_specs=EVERYWHERE,
        )
        state = setting.everywhere(jax.eval_shape(lambda: init(setting)))
        rows = setting.batch * setting.devices
        return jax.jit(mapped, donate_argnums=0), (state, batch(setting), setting.mask(rows))

    return make


def _finalized(init: Callable[[Setting], Any]) -> Make:
    def make(setting: Setting) -> Made:
        state = setting.everywhere(jax.eval_shape(lambda: init(setting)))
        return jax.jit(lambda state: state.finalize()), (state,)

    return make


def _cka_stream(setting: Setting):
    return kernels.StreamingCka.init(setting.widths)


def _pca_stream(setting: Setting):
    return kernels.StreamingPca.init(sum(setting.widths), setting.components)


def _batch_of_blocks(setting: Setting):
    return setting.blocks(setting.batch * setting.devices)


def _stacked_batch(setting: Setting):
    return setting.array((setting.batch * setting.devices, sum(setting.widths)))


def _substrate(setting: Setting) -> Made:
    from substrate_jax.substrate import components

    def fit(block, mask):
        found = components.fit(block, setting.components, mask, DATA_AXIS)
        return found.components, found.explained_variance_ratio

    block = setting.array((setting.padded, sum(setting.widths)))
    return over_rows(fit, setting.mesh, ROWS), (block, setting.mask())


def _pcka(setting: Setting) -> Made:
    def run(xs, bases, masks):
        return kernels.pairwise_pcka(xs, bases, masks=masks, axis_name=DATA_AXIS)

    width, count = sum(setting.widths), range(setting.domains)
    xs = [setting.array((setting.padded, width)) for _ in count]
    bases = [setting.array((width, setting.components), spec=EVERYWHERE) for _ in count]
    program = over_rows(run, setting.mesh, (ROWS, EVERYWHERE, ROWS))
    return program, (xs, bases, [setting.mask() for _ in count])


def forward(spec: Any, setting: Setting) -> Made:
    """The forward pass of an encoder's record on a batch."""
    from substrate_jax.encoders import weights
    from substrate_jax.encoders.encoder import Encoder
    from substrate_jax.features.forward import forward_pass

    module = weights.abstract_module(spec.config)
    module.eval()
    dtype = jnp.dtype(setting.dtype)
    encoder = Encoder(spec, module, source=spec.name, sha256="", dtype=dtype)
    function, state = forward_pass(encoder, setting.mesh)
    shapes = [setting.array(leaf.shape, dtype, EVERYWHERE) for leaf in state]
    rows, pixels = setting.batch * setting.devices, spec.preprocess
    return function, (shapes, setting.array((rows, *pixels.shape), pixels.dtype))


def _extraction(name: str) -> Make:
    def make(setting: Setting) -> Made:
        from substrate_jax.encoders import encoder_spec

        return forward(encoder_spec(name), setting)

    return make


def _training(student_name: str) -> Make:
    """A step of a student of experiments.distill on CIFAR-100's images, by debiased CKA."""

    def make(setting: Setting) -> Made:
        from flax import nnx

        from substrate_jax.data.preprocess import Preprocess
        from substrate_jax.encoders.networks.layers import constant_rngs
        from substrate_jax.training.distillation import Student, student_loss
        from substrate_jax.training.program import train_step
        from substrate_jax.training.students import IMAGE_SIZE, student_config, student_optimizer

        rngs = constant_rngs(np.random.default_rng(0))
        preprocess = Preprocess(size=IMAGE_SIZE, crop_fraction=1.0)
        network = student_config(student_name, CLASSES).build(rngs)
        student = Student(network, preprocess, "debiased_cka", width=setting.components, rngs=rngs)
        student.train()
        graph, parameters, rest = nnx.split(student, nnx.Param, ...)
        optimizer = student_optimizer(student_name, 1000)

        def step(state, data, scalars, rows):
            return train_step(
                graph,
                student_loss,
                optimizer,
                setting.mesh,
                jnp.dtype(setting.dtype),
                state,
                data,
                {},
                scalars,
                rows,
                {},
                jnp.int32(0),
            )

        state = {"parameters": parameters, "rest": rest}
        state["optimizer"] = jax.eval_shape(optimizer.init, parameters)
        images, batch = 50_000, setting.batch * setting.devices
        data = {
            "images": setting.array((images, IMAGE_SIZE, IMAGE_SIZE, 3), "uint8", EVERYWHERE),
            "labels": setting.array((images,), "int32", EVERYWHERE),
            "target": setting.array((images, setting.components), spec=EVERYWHERE),
        }
        scalars = {
            "settings": {"classify": np.float32(1), "weight": np.float32(1)},
            "learning_rate": np.float32(0.1),
            "seed": np.uint32(0),
        }
        rows = setting.array((batch,), "int32", PartitionSpec(DATA_AXIS))
        arguments = (setting.everywhere(state), data, setting.everywhere(scalars), rows)
        return jax.jit(step, donate_argnums=0), arguments

    return make


def _programs() -> list[Program]:
    measures = [
        Program(name, "measures", on_blocks(_measure(name)), gathers=not measure.sharded)
        for name, measure in kernels.MEASURES.items()
        if name not in ("cka", "mutual_knn") and not name.startswith("debiased_")
    ]
    return [
        Program("cka", "measures", on_blocks(_cka)),
        Program("mutual_knn", "measures", on_blocks(_mutual_knn)),
        *measures,
        Program("cka_null", "nulls", on_blocks(_sampled(kernels.calibrate_cka)), gathers=True),
        Program("mutual_knn_null", "nulls", on_blocks(_sampled(kernels.calibrate_mutual_knn, KS))),
        Program("cka_resampled", "nulls", on_blocks(resampled("cka"))),
        Program("mutual_knn_resampled", "nulls", on_blocks(resampled("mutual_knn"))),
        *(
            Program(f"{name}_resampled", "nulls", on_blocks(resampled(name)), gathers=True)
            for name in ("gulp", "procrustes")
        ),
        Program("streaming_cka", "streaming", _stream(_cka_stream, _batch_of_blocks)),
        Program("streaming_cka_end", "streaming", _finalized(_cka_stream)),
        Program("streaming_pca", "streaming", _stream(_pca_stream, _stacked_batch)),
        Program("streaming_pca_end", "streaming", _finalized(_pca_stream)),
        Program("substrate", "substrates", _substrate),
        Program("pcka", "substrates", _pcka),
        *(Program(f"distill_{name}", "training", _training(name)) for name in STUDENTS),
    ]


PROGRAMS: Mapping[str, Program] = {program.name: program for program in _programs()}


def chosen(words: Sequence[str], encoders: Sequence[str]) -> list[Program]:
    """Programs by name or group, in the order of the table; extraction is by encoder.

    Raises:
        ValueError: a word is neither.
    """
    known = [Program(name, "extraction", _extraction(name)) for name in encoders]
    known += PROGRAMS.values()
    for word in words or [""]:
        if word not in ("all", *GROUPS, *(program.name for program in known)):
            raise ValueError(
                f"programs={word!r}: give all, groups of {', '.join(GROUPS)}, or names of "
                f"{', '.join(program.name for program in known)}"
            )
    return [each for each in known if {"all", each.group, each.name} & set(words)]
