"""The script of checks for a GPU, with a python that only says what it was asked."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu.sh"
SAY = '#!/bin/bash\necho "$JAX_PLATFORMS" "$@"\n[[ "$*" != *bench* ]]\n'


def test_all_parts_run_and_one_that_fails_is_said(tmp_path):
    python = tmp_path / "python"
    python.write_text(SAY)
    python.chmod(0o755)
    out = tmp_path / "out"
    done = subprocess.run(
        [SCRIPT, out, "tfds:cifar100_mini@/sets"],
        env=os.environ | {"PYTHON": str(python), "JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = {part: (out / f"{part}.log").read_text().strip() for part in ("agreement", "extraction")}
    assert said["agreement"] == "cuda -m tests.on_gpu"
    assert said["extraction"].startswith("cuda -m experiments.bench --what=extract --encoders=all")
    distillation = (out / "distillation.log").read_text()
    assert "--data=tfds:cifar100_mini:train@/sets --test_data=tfds:cifar100_mini:test@/" in (
        distillation
    )
    codes = [line.split(" after ")[0] for line in done.stdout.splitlines()]
    assert codes == ["agreement: code 0", "extraction: code 1", "distillation: code 0"]
    assert done.returncode == 1
