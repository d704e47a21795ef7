"""Runs a command and says on a pipe when each of its steps begins: `staged FD MODULE FLAGS...`.

The steps are those of `Stages`, every chunk written to the store, every compiled program
kept, and every file of the report. Whoever reads the pipe can strike in the middle of a step.
"""

import os
import runpy
import sys

from experiments.common.stages import Stages


def main() -> None:
    """Run the command as if it had been started by its name."""
    pipe, module = int(sys.argv[1]), sys.argv[2]
    sys.argv[1:] = sys.argv[3:]

    def say(step: str) -> None:
        os.write(pipe, f"{step}\n".encode())

    def saying(step, function):
        def said(*arguments, **options):
            say(step if isinstance(step, str) else step(*arguments))
            return function(*arguments, **options)

        return said

    from experiments.common import launch

    configure = launch._configure_jax

    def configured():
        found = configure()
        import jax.monitoring

        from substrate_jax.features.store import FeatureStore
        from substrate_jax.report import files

        FeatureStore.write = saying("chunk", FeatureStore.write)
        files.write_file = saying(lambda path, content: f"write {path.suffix}", files.write_file)

        def on_event(event: str, **_) -> None:
            if event.endswith("/cache_misses"):  # right before a program is written
                say("program")

        jax.monitoring.register_event_listener(on_event)
        say("begin")
        return found

    launch._configure_jax = configured
    Stages.__call__ = saying(lambda _, name: name, Stages.__call__)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
