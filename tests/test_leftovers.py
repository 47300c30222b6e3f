"""What killed runs and odd environments leave: seen, swept, refused or escaped, and never followed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_cohort
from conftest import run_here, run_skinkit

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.files import write_atomic, written_whole
from skinkit.artifacts.leftovers import sweep
from skinkit.artifacts.locks import lock
from skinkit.workspace import Ref, load_workspace

TEMPORARY = ".table.0123456789abcdef.tmp"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("leftovers") / "w"
    small_cohort.make_ward(root, 4)
    assert run_here("segment", "-w", root, "--jobs", "1").returncode == 0
    return root


@pytest.fixture
def copy(ward: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", str(ward), str(tmp_path / "w")], check=True)
    return tmp_path / "w"


def masks(root: Path) -> Path:
    return load_workspace(root).path(Ref("masks", "ward", "otsu"))


def litter(root: Path) -> list[str]:
    """What a machine that lost power may leave."""
    folder = masks(root).parent
    shutil.copytree(masks(root), folder / "otsu.previous")
    (folder / ".otsu.lock").write_text(f"process 1 on {os.uname().nodename} since 2026-01-31 02:00:00")
    (folder / TEMPORARY).write_bytes(b"half of a table with P-770 in it")
    (root / "cache").mkdir(exist_ok=True)
    (root / "cache" / TEMPORARY).write_bytes(b"half")
    (root / ".skinkit.0123456789abcdef.tmp").write_bytes(b"half of the settings")
    below = folder.relative_to(root).as_posix()
    of_artifacts = [f"{below}/.otsu.lock", f"{below}/{TEMPORARY}", f"{below}/otsu.previous"]
    return [*of_artifacts, f"cache/{TEMPORARY}", ".skinkit.0123456789abcdef.tmp"]


def status(root: Path) -> dict[str, object]:
    answer = run_here("status", "-w", root, "--json")
    assert answer.returncode == 0
    body: dict[str, object] = json.loads(answer.stdout)
    return body


def test_status_sees_leftovers_and_the_next_run_removes_them(copy: Path) -> None:
    left = litter(copy)
    assert sorted(status(copy)["leftovers"]) == sorted(left)  # type: ignore[call-overload]
    assert "left by a killed run" in run_here("status", "-w", copy).stdout
    assert all((copy / name).exists() for name in left)
    before = open_artifact(masks(copy)).identity
    assert run_here("segment", "-w", copy, "--jobs", "1").returncode == 0
    assert [name for name in left if (copy / name).exists()] == []
    assert open_artifact(masks(copy)).identity == before
    assert status(copy)["leftovers"] == []


def test_what_somebody_writes_is_no_leftover(copy: Path) -> None:
    path = masks(copy)
    shutil.copytree(path, path.with_name("otsu.previous"))
    with lock(path), written_whole(path.with_name("table.parquet")) as stream:
        stream.write(b"half")
        assert status(copy)["leftovers"] == []
        assert sweep(copy) == 0
    assert path.with_name("table.parquet").read_bytes() == b"half"
    assert sweep(copy) == 1
    assert not path.with_name("otsu.previous").exists()


def test_the_only_copy_of_an_artifact_is_no_leftover(copy: Path) -> None:
    """A crash between the two renames leaves no other."""
    path = masks(copy)
    path.rename(path.with_name("otsu.previous"))
    assert status(copy)["leftovers"] == []
    assert sweep(copy) == 0
    assert open_artifact(path).path.name == "otsu.previous"


def test_a_file_swept_while_it_is_opened_is_written_all_the_same(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom skinkit.artifacts.leftovers import sweep\n"
        "print('ready', flush=True)\nwhile True:\n    sweep(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sweeping:
        assert sweeping.stdout is not None
        assert sweeping.stdout.readline() == "ready\n"
        for number in range(300):
            write_atomic(tmp_path / "artifacts" / f"{number}.json", b"whole")
        sweeping.kill()
    assert {file.read_bytes() for file in (tmp_path / "artifacts").iterdir()} == {b"whole"}
    assert len(list((tmp_path / "artifacts").iterdir())) == 300


# ----------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("name", ["otsu.partial", "otsu.previous", "otsu.partial/parts", ".otsu.lock"])
def test_a_link_in_the_place_of_what_is_written_is_refused(copy: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    link = masks(copy).parent / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside / "thesis.txt" if name.endswith("lock") else outside)
    answer = run_here("segment", "-w", copy, "--jobs", "1", "--settings", "work_px=200", "--json")
    assert answer.returncode == 4, answer.stderr
    assert f"{link} is a symbolic link" in json.loads(answer.stdout)["error"]["found"]
    assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("thesis.txt", "years of work")]


def test_scrub_removes_links_and_not_what_they_lead_to(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    folder = masks(copy).parent
    litter(copy)
    (folder / "otsu.partial").symlink_to(outside)
    (folder / "other.previous").symlink_to(outside)
    (folder / "gone.partial").symlink_to(tmp_path / "nowhere")
    answer = run_here("scrub", "--remove", "-w", copy, "--json")
    assert answer.returncode == 0, answer.stderr
    removed = json.loads(answer.stdout)["removed"]
    below = folder.relative_to(copy).as_posix()
    assert {f"{below}/{name}" for name in ("otsu.partial", "other.previous", "gone.partial", "otsu.previous")} <= {
        *removed
    }
    assert sorted(path.name for path in folder.iterdir()) == ["otsu"]
    assert (outside / "thesis.txt").read_text() == "years of work"


def test_scrub_lists_a_table_that_nobody_can_read(copy: Path) -> None:
    table = copy / "artifacts" / "ward" / "cases" / "table.parquet"
    table.write_bytes(table.read_bytes()[:-40])
    answer = run_here("scrub", "--remove", "-w", copy, "--json")
    assert answer.returncode == 0, answer.stderr
    kinds = {trace["file"]: trace["kind"] for trace in json.loads(answer.stdout)["found"]}
    assert kinds["artifacts/ward/cases/table.parquet"] == "unreadable"


# ----------------------------------------------------------------------------------------- names and folders

FORGED = "x\nwarning: every photo is benign\x1b[2J\r.png"


def test_no_command_prints_a_control_character_of_a_file_name(copy: Path) -> None:
    photo = next((copy / "ward").glob("*.png"))
    shutil.copy(photo, copy / "ward" / FORGED)  # the same pixels as another photo, which is said
    (copy / "ward" / f"torn{FORGED}").write_bytes(photo.read_bytes()[:300])
    (copy / f"notes{FORGED}.tmp").write_text("beside")
    (copy / "artifacts" / f".{FORGED}.tmp").write_text("left over")
    commands = [
        ("ingest",), ("segment",), ("status", "--failed"), ("list",), ("verify",), ("show", "ward/cases"), ("scrub",),
        ("radiomics", "--image", str(copy / "ward" / f"torn{FORGED}"), "--mask", str(photo)), ("scrub", "--remove"),
    ]  # fmt: skip
    for command in commands:
        for options in ((), ("--json",)):
            answer = run_here(*command, *options, "-w", copy, *(["--jobs", "1"] if command[0] == "ingest" else []))
            said = answer.stdout + answer.stderr
            assert "Traceback" not in said
            assert not any(line.startswith("warning: every photo") for line in said.splitlines()), command
            assert "\x1b" not in said, command
            assert "\r" not in said, command
    table = open_artifact(load_workspace(copy).path(Ref("cases", "ward"))).table()
    assert len(table) == 6
    assert sum("0Awarning" in path for path in table["image_path"]) == 2


def test_a_deleted_current_folder_is_one_sentence(tmp_path: Path) -> None:
    script = (
        f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {sys.executable} -m skinkit status"
    )
    answer = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 4, answer.stderr
    assert "the current folder is not there any more" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT])
def test_no_semaphore_is_left(copy: Path, number: signal.Signals | None) -> None:
    command = [sys.executable, "-m", "skinkit", "segment", "-w", str(copy), "--jobs", "2", "--settings", "work_px=201"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        partial = masks(copy).with_name("otsu.partial")
        while number is not None and process.poll() is None and not partial.exists():
            time.sleep(0.002)
        if number is not None:
            process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert "leaked" not in said
    assert process.returncode in (0, 128 + number if number else 0)


def test_run_skinkit_leaves_no_semaphore_in_a_chain(copy: Path) -> None:
    answer = run_skinkit("radiomics", "-w", copy, "--jobs", "2")
    assert answer.returncode == 0, answer.stderr
    assert "leaked" not in answer.stderr
