"""Joining a run of several processes: what is refused. tests/multiprocess has real ones."""

import pytest

from substrate_jax.processes import initialize_distributed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "coordinator=None with num_processes=2"),
        (("localhost", 2, 0), "coordinator='localhost': give host:port"),
        (("localhost:1", 2, 2), "0 <= process_id < num_processes"),
        (("localhost:1", None, 0), "give both"),
    ],
)
def test_initialize_distributed_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        initialize_distributed(*arguments)
