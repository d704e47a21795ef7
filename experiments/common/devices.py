"""Flags of launchers that run on a mesh, by one process or several."""

import importlib.metadata
import socket

from absl import flags, logging

from . import mesh, signals

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(mesh)
flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0 in a run of several, with --num_processes and --process_id; 'auto' "
    "asks Slurm, MPI or Cloud TPU, which is the default on a TPU; 'none' runs alone.",
)
flags.DEFINE_integer("num_processes", None, "Processes of the run, with --coordinator=host:port.")
flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def join_processes() -> None:
    """Join a run of several processes, where the flags or a TPU say so.

    Raises:
        ValueError: process 0 cannot be reached, or another process runs other code.
    """
    import jax

    from substrate_jax.processes import initialize_distributed, on_tpu

    coordinator = FLAGS.coordinator
    if coordinator is None and on_tpu():
        coordinator = "auto"
    if coordinator == "none":
        coordinator = None
    initialize_distributed(coordinator, FLAGS.num_processes, FLAGS.process_id)
    if coordinator is not None and jax.process_count() > 1:
        _meet([] if coordinator == "auto" else [coordinator.rpartition(":")[0]])


def _meet(hosts: list[str]) -> None:
    """Check that all processes run the same code, and have them hear of each other's ends.

    Args:
        hosts: names of process 0's host, as far as the user gave them.
    """
    import jax

    from substrate_jax import processes

    number = jax.process_index()
    watch = signals.watch_processes(number)
    address = None
    if number == 0:
        name = socket.gethostname()
        address = [name, *_addresses(name)], *watch.serve(jax.process_count())
    packages = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    code = {"substrate_jax": processes.code_version(), **packages}
    said = processes.exchange([code, address])
    processes.check_code([code for code, _ in said])
    if number:
        names, port, token = said[0][1]
        try:
            watch.join([*hosts, *names], port, token)
        except OSError as error:
            logging.warning(
                f"process {number} cannot reach process 0 at port {port} of {names[0]} ({error}): "
                "it learns from jax alone, within two minutes, if another process dies"
            )


def _addresses(name: str) -> list[str]:
    """Of a host, as it knows itself."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]
