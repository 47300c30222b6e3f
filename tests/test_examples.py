"""The shell scripts of examples/ run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skinkit.stages import STAGES

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize("script", sorted(EXAMPLES.rglob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_valid_shell_and_executable(script: Path) -> None:
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)


def test_the_whole_chain_as_a_script(demo_copy: Path) -> None:
    script = EXAMPLES / "pipeline.sh"
    named = [line.split()[1] for line in script.read_text().splitlines() if line.startswith("skinkit ")]
    assert named == [stage for stage in STAGES if stage != "synthesise"], "synthesise needs a generator of one's own"
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    command = [str(script), str(demo_copy)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert answer.returncode == 0, answer.stderr
    assert "up to date" in answer.stderr
