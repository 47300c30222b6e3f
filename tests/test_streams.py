"""What becomes of a run whose output nobody takes: closed, full and broken streams."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_cohort
import written_artifacts
from PIL import Image

from skinkit.artifacts.artifact import exists, open_artifact, rehash
from skinkit.workspace import Ref, load_workspace


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ward")
    written_artifacts.make_workspace(root, {"ward": "inference"}, segmenter="otsu")
    for n in range(3):
        photo, _ = small_cohort.draw(np.random.default_rng(n), "nevus")
        Image.fromarray(photo).save(root / "ward" / f"色素痣{n}.png")
    return root


def shell(line: str, root: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which ``skinkit`` is this one."""
    skinkit = f'skinkit() {{ {shlex.quote(sys.executable)} -m skinkit "$@"; }}; set -o pipefail; cd {root}; '
    return subprocess.run(["bash", "-c", skinkit + line], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("line", ["skinkit list | head -n 1", "skinkit --help | true", "skinkit status --json | true"])
def test_a_reader_that_has_seen_enough_is_no_error(line: str, ward: Path) -> None:
    answer = shell(line, ward)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("line", ["skinkit list", "skinkit status --json", "skinkit --version"])
def test_a_full_stdout_is_exit_4_and_one_error(line: str, ward: Path) -> None:
    answer = shell(f"{line} > /dev/full", ward)
    assert answer.returncode == 4
    assert "found:    stdout: No space left on device" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "Exception ignored" not in answer.stderr


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "<&- >&- 2>&-", "2> >(true)"])
@pytest.mark.parametrize("log", ["", "--log-format json"])
def test_messages_that_nobody_takes_do_not_stop_the_work(streams: str, log: str, ward: Path) -> None:
    name = f"m{abs(hash((streams, log)))}"
    answer = shell(f"skinkit segment --model otsu --name {name} {log} --jobs 1 {streams}", ward)
    assert answer.returncode == 0
    path = load_workspace(ward).path(Ref("masks", "ward", name))
    assert exists(path)
    assert rehash(open_artifact(path)) == []


def test_errors_that_nobody_takes_still_make_the_exit_code(ward: Path) -> None:
    assert shell("skinkit nonsense 2>/dev/full", ward).returncode == 2
    assert shell("skinkit nonsense >&- 2>&-", ward).returncode == 2


def test_json_is_json_in_an_encoding_that_lacks_the_letters(ward: Path) -> None:
    answer = shell("PYTHONIOENCODING=latin-1 LC_ALL=C skinkit status -w . --json", ward)
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["exit_code"] == 0
    assert shell("skinkit segment --cohort 色素 2>&1 | cat", ward).returncode == 2
    plain = shell("PYTHONIOENCODING=ascii skinkit show 色素 --json", ward)
    assert "色素" in json.loads(plain.stdout)["error"]["found"]
