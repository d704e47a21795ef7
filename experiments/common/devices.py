"""Flags of launchers that run on a mesh, by one process or several."""

from absl import flags

from . import mesh

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
    """Join a run of several processes, where the flags or a TPU say so."""
    from substrate_jax.processes import initialize_distributed, on_tpu

    coordinator = FLAGS.coordinator
    if coordinator is None and on_tpu():
        coordinator = "auto"
    if coordinator == "none":
        coordinator = None
    initialize_distributed(coordinator, FLAGS.num_processes, FLAGS.process_id)
