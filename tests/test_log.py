"""The log of a machine: one JSON object a line whatever happens, and the id of the run everywhere."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_here, run_skinkit
from PIL import Image

from skinkit.console import Console

FIELDS = {"time", "level", "event", "run_id", "command", "stage", "artifact", "case", "duration_s"}
LIBRARIES = """
import os, subprocess, sys, warnings
from skinkit.console import Console

console = Console(log_format="json", run_id="r", command="c")
with console.whole_stderr():
    warnings.warn("of Python")
    console.info("our own, 张")
    subprocess.run(["sh", "-c", "echo of a child >&2"])
    Console(log_format="json", run_id="r", stream=os.fdopen(os.dup(2), "w")).info("of another console")
    os.write(2, b"of C\\n\\n{}\\nwithout an end")
print("afterwards", file=sys.stderr)
"""
CRASH = """
import sys
from skinkit import cli
from skinkit.commands import status

def broken(config, context):
    raise ValueError("on purpose")

status.run = broken
sys.exit(cli.main(sys.argv[1:]))
"""


def logged(text: str) -> list[dict[str, Any]]:
    """The lines of a log, each of which must be an object with the same fields."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line.keys() >= FIELDS for line in lines)
    return lines


def python(code: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_libraries_print_becomes_lines_of_the_log(encoding: str) -> None:
    answer = python(LIBRARIES, PYTHONIOENCODING=encoding)
    *lines, last = answer.stderr.splitlines()
    entries = logged("\n".join(lines))
    told = {entry["message"]: entry["event"] for entry in entries}
    assert told["our own, 张"] == "message"
    libraries = {text for text, event in told.items() if event == "library"}
    assert libraries >= {"of C", "of a child", "{}", "without an end"}
    assert told["of another console"] == "message"
    assert any("of Python" in text for text in libraries)
    assert last == "afterwards"


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["status", "--sise", "3", "--log-format", "json"], 2, "ConfigError"),
        (["nonsense", "--log-format=json"], 2, "ConfigError"),
        (["status", "--log-format", "json", "--json"], 2, "ConfigError"),
    ],
)
def test_errors_are_lines_of_the_log(arguments: list[str], code: int, kind: str, tmp_path: Path) -> None:
    answer = run_here(*arguments, cwd=tmp_path)
    assert answer.returncode == code
    lines = logged(answer.stderr)
    (error,) = [line for line in lines if line["level"] == "error"]
    assert (error["event"], error["kind"]) == ("error", kind)
    assert error["found"]
    assert error["fix"]
    assert lines[-1]["event"] == "end"
    assert lines[-1]["exit_code"] == code
    if "--json" in arguments:
        assert json.loads(answer.stdout)["run_id"] == error["run_id"]


def test_an_internal_error_is_one_line_with_its_traceback(tmp_path: Path) -> None:
    answer = python(CRASH, "status", "--log-format", "json", "-w", tmp_path)
    assert answer.returncode == 1
    (error,) = [line for line in logged(answer.stderr) if line["level"] == "error"]
    assert error["kind"] == "ValueError"
    assert "on purpose" in error["traceback"]
    plain = python(CRASH, "status", "-w", tmp_path)
    assert "Traceback" in plain.stderr
    assert "please report the lines above" in plain.stderr


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], dict[str, Any]]:
    """A workspace after its photos were read, the log of that, and the answer."""
    base = tmp_path_factory.mktemp("log")
    (base / "in").mkdir()
    for n in range(3):
        Image.fromarray(np.full((20, 24, 3), 40 * n, dtype=np.uint8)).save(base / "in" / f"{n}.png")
    (base / "in" / "torn.png").write_bytes((base / "in" / "0.png").read_bytes()[:60])
    rows = "\n".join(f"{name}.png,SECRETWORD" for name in (0, 1, 2, "torn"))
    (base / "in" / "t.csv").write_text(f"file,dx\n{rows}\n")
    (base / "in" / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "file"\ndiagnosis = "dx"\n')
    workspace = base / "w"
    workspace.mkdir()
    (workspace / "skinkit.toml").write_text('[cohorts.a]\nrole = "inference"\nsource = "folder"\npath = "../in"\n')
    answer = run_skinkit("ingest", "-w", workspace, "--log-format", "json", "--json")
    assert answer.returncode == 3
    return workspace, logged(answer.stderr), json.loads(answer.stdout)


def test_the_run_is_named_in_log_manifest_and_answer(
    ingested: tuple[Path, list[dict[str, Any]], dict[str, Any]],
) -> None:
    workspace, lines, answer = ingested
    manifest = json.loads((workspace / "artifacts" / "a" / "cases" / "manifest.json").read_text())
    assert {line["run_id"] for line in lines} == {answer["run_id"]} == {manifest["made"]["run"]}
    assert {line["command"] for line in lines} == {"ingest"}
    assert [line["event"] for line in lines if line["event"] in ("begin", "started", "finished", "end")] == [
        "begin", "started", "finished", "end",
    ]  # fmt: skip


def test_every_case_is_a_line(ingested: tuple[Path, list[dict[str, Any]], dict[str, Any]]) -> None:
    cases = {line["case"]: line for line in ingested[1] if line["event"] == "case"}
    assert cases.keys() == {"0", "1", "2", "torn"}
    assert {(line["stage"], line["artifact"]) for line in cases.values()} == {("ingest", "a/cases")}
    assert (cases["torn"]["level"], cases["torn"]["status"]) == ("warning", "failed")
    assert cases["torn"]["reason"].startswith("image_")
    assert all(line["duration_s"] >= 0 for line in cases.values())


def test_the_log_holds_no_words_of_the_table(ingested: tuple[Path, list[dict[str, Any]], dict[str, Any]]) -> None:
    workspace, lines, _ = ingested
    assert "SECRETWORD" not in json.dumps(lines)
    assert any("1 words in 4 rows" in line.get("message", "") for line in lines)
    (workspace / "artifacts" / "a" / "cases" / "manifest.json").unlink()
    (workspace / "artifacts" / "a" / "cases").rename(workspace / "away")
    assert "SECRETWORD" in run_here("ingest", "-w", workspace).stderr, "a person is told, to map it"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_run_that_is_stopped_says_so_and_ends_its_log(name: str, code: int, tmp_path: Path) -> None:
    told = CRASH.replace('raise ValueError("on purpose")', f"os.kill(os.getpid(), signal.{name}); time.sleep(9)")
    answer = python(f"import os, signal, time\n{told}", "status", "--log-format", "json", "--json", "-w", tmp_path)
    assert answer.returncode == code
    lines = logged(answer.stderr)
    assert [line["event"] for line in lines] == ["begin", "error", "end"]
    assert (lines[1]["kind"], lines[2]["exit_code"]) == ("Interrupted", code)
    assert json.loads(answer.stdout)["run_id"] == lines[0]["run_id"]


def test_a_name_cannot_make_a_terminal_obey() -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.info("odd \x1b[2J\nname\x9b")
    console.error("found\n  \x1b]0;x\x07")
    assert stream.getvalue() == "odd \\x1b[2J\\nname\\x9b\nfound\n  \\x1b]0;x\\x07\n"
