"""Programs compiled for a pod, and the least time that the published rates of its chips allow."""

import re
import time

import jax
from jax.sharding import Mesh

from substrate_jax.mesh import make_mesh

from .chips import Pod
from .programs import Program, Setting
from .reading import collectives, products
from .results import CompiledProgram, PodFacts


def mesh_of(pod: Pod, spec: str | None) -> Mesh:
    """The devices of a pod as a mesh.

    Raises:
        ValueError: a mesh that does not fit the pod.
    """
    try:
        return make_mesh(spec, pod.devices)
    except ValueError as error:
        raise ValueError(f"topology {pod.name}: {error}") from error


def facts(pod: Pod, mesh: Mesh) -> PodFacts:
    """What is published of a pod."""
    return PodFacts(
        chip=pod.chip.title,
        chips=pod.chips,
        devices=len(pod.devices),
        mesh=",".join(f"{axis}={size}" for axis, size in mesh.shape.items()),
        flops=pod.per_device("flops"),
        memory_bytes=pod.per_device("memory"),
        memory_rate=pod.per_device("memory_rate"),
        link_rate=pod.per_device("link_rate"),
        source=pod.chip.source,
    )


def compile_for(pod: Pod, program: Program, setting: Setting) -> CompiledProgram:
    """Compile a program for a pod; what does not fit its memory is a result, not an error."""
    function, arguments = program.make(setting)
    start = time.perf_counter()
    traced = function.trace(*arguments)
    lowered = traced.lower()
    lower_seconds = time.perf_counter() - start
    found = list(products(traced.jaxpr.jaxpr, 1 / setting.mesh.size))
    unit_flops = sum(one.flops * one.passes for one in found)
    dtypes: dict[str, float] = {}
    for one in found:
        dtypes[one.dtype] = dtypes.get(one.dtype, 0.0) + one.flops
    result = {
        "topology": pod.name,
        "program": program.name,
        "group": program.group,
        "gathers": program.gathers,
        "lower_seconds": lower_seconds,
        "flops": sum(dtypes.values()),
        "dtypes": dtypes,
        "unit_flops": unit_flops,
        "compute_seconds": unit_flops / pod.per_device("flops"),
    }
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return CompiledProgram(**result, error=refusal(str(error)))
    compile_seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    sent = collectives(compiled.as_text())
    sent_bytes = sum(one.count * one.bytes for one in sent)
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes + outputs
    moved = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return CompiledProgram(
        **result,
        compile_seconds=compile_seconds,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        output_bytes=outputs,
        memory_share=held / pod.per_device("memory"),
        accessed_bytes=cost.get("bytes accessed"),
        collectives=sorted(sent, key=lambda one: -one.count * one.bytes),
        collective_bytes=sent_bytes,
        memory_seconds=moved / pod.per_device("memory_rate"),
        # What a device receives comes in by half of its links' rate.
        link_seconds=sent_bytes / (pod.per_device("link_rate") / 2),
    )


def refusal(message: str) -> str:
    """What XLA said, in one line: how much memory there is not, where that is it."""
    if match := re.search(r"Used (\S+) of (\S+) hbm", message):
        return f"takes {match[1]} of {match[2]} of HBM"
    return " ".join(message.split())[:200]
