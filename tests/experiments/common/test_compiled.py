"""Compiled programs that a kill or a full disk has cut short are made anew, without a word."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LAUNCHER = """
import jax, jax.numpy as jnp
from experiments.common import compiled, launch

keep = compiled.keep_programs

def keep_all():
    folder = keep()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder

compiled.keep_programs = keep_all

def run():
    @jax.jit
    def program(x):
        return jnp.sin(x).sum()
    @jax.jit
    def another(x):
        return jnp.cos(x).sum()
    x = jnp.arange(8.0)
    print(round(float(program(x)), 3), round(float(another(x)), 3))

launch.start(run)
"""


def launched(cache, **environment):
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cache)}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0.554 1.478\n"), done.stderr
    return done.stderr


def kept(cache):
    programs = (cache / "substrate_jax" / "xla").glob("jit_*-cache")
    return {path.name: path.read_bytes() for path in programs}


def test_a_damaged_program_is_replaced(tmp_path):
    assert launched(tmp_path) == ""
    first = kept(tmp_path)
    assert {name.split("-")[0] for name in first} >= {"jit_program", "jit_another"}
    for name in first:
        path = tmp_path / "substrate_jax" / "xla" / name
        path.write_bytes(path.read_bytes()[:100])
    assert launched(tmp_path) == ""
    second = kept(tmp_path)
    assert second.keys() == first.keys()
    assert min(map(len, second.values())) > 100
    assert launched(tmp_path) == ""
    assert kept(tmp_path) == second


@pytest.mark.parametrize("home", [True, False])
def test_where_nothing_can_be_kept_one_line_says_so(home, tmp_path):
    file = tmp_path / "file"
    file.touch()
    said = launched(file) if home else launched("", HOME=str(file))
    assert said.startswith("note: compiled programs are not kept (")
    assert said.count("\n") == 1
