"""The launch scripts with tools that only say what they were asked, or start processes here."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "launch"
MODULE = "tests.scripts.worker"
SAY = '#!/bin/bash\nprintf "%s\\n" "$(basename "$0")" "$@"\n'
# Two tasks of a step on one node, as Slurm describes them to each.
SRUN = """#!/bin/bash
shift
export SLURM_JOB_ID=$PORT SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_LOCALID=0
for SLURM_PROCID in 0 1; do export SLURM_PROCID SLURM_LOCALID=$SLURM_PROCID; "$@" & done
wait -n && wait -n
"""
SSH = '#!/bin/bash\nexec bash -c "$3"\n'


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def launch(tmp_path):
    """Runs a script with fake tools by name."""

    def run(script, *arguments, tools, **variables):
        for name, text in tools.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "JAX_PLATFORMS": "cpu",
            "PORT": str(free_port()),
            "PYTHON": sys.executable,
            "REMOTE": f"cd {shlex.quote(str(ROOT))} && exec {shlex.quote(sys.executable)}",
        }
        return subprocess.run(
            [SCRIPTS / script, *arguments],
            cwd=ROOT,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    return run


def test_tpu_vm_runs_on_all_workers(launch):
    done = launch(
        "tpu_vm.sh",
        *("my-pod", "us-west4-a", "experiments.cka", "--domains=a b"),
        tools={"gcloud": SAY},
        REMOTE="python",
    )
    *words, command = done.stdout.splitlines()
    assert words == [
        "gcloud",
        *["compute", "tpus", "tpu-vm", "ssh", "my-pod", "--zone=us-west4-a"],
        "--worker=all",
    ]
    assert command == r"--command=python -m experiments.cka --domains=a\ b"


def test_gke_makes_a_workload(launch):
    arguments = ("my-cluster", "v5litepod-256", "experiments.cka", "--n=100")
    done = launch("gke.sh", *arguments, tools={"xpk": SAY}, IMAGE="registry/image")
    assert done.stdout.splitlines() == [
        *["xpk", "workload", "create", "--cluster=my-cluster", "--workload=cka"],
        *["--tpu-type=v5litepod-256", "--docker-image=registry/image"],
        "--command=python -m experiments.cka --n=100",
    ]
    without = launch("gke.sh", *arguments, tools={"xpk": SAY})
    assert without.returncode != 0
    assert "set IMAGE" in without.stderr


@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "slurm.sh", "ssh.sh"])
def test_a_script_says_what_it_lacks(launch, script):
    done = launch(script, tools={})
    assert done.returncode != 0
    assert "give " in done.stderr


STARTS = {"slurm": ("slurm.sh", {"srun": SRUN}), "ssh": ("ssh.sh", {"ssh": SSH})}


@pytest.mark.parametrize("kind", STARTS)
def test_two_processes_meet(launch, kind):
    script, tools = STARTS[kind]
    hosts = ["127.0.0.1 127.0.0.1"] if kind == "ssh" else []
    done = launch(script, *hosts, MODULE, tools=tools)
    assert done.returncode == 0, done.stderr
    said = [line.strip() for line in done.stdout.splitlines() if line.startswith("process ")]
    assert sorted(said) == ["process 0 met [0, 1]", "process 1 met [0, 1]"]


def test_ssh_ends_with_the_code_of_what_failed(launch):
    done = launch("ssh.sh", "127.0.0.1 127.0.0.1", MODULE, "--fail=1", tools={"ssh": SSH})
    assert done.returncode == 3
