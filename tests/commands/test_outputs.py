"""Options that name an output: what skinkit did not write is not replaced, and a folder that is absent is not made."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import run_here
from written_artifacts import make_workspace, write

from skinkit.artifacts.files import write_atomic
from skinkit.cli import main
from skinkit.commands import COMMANDS
from skinkit.commands._command_line import own_options
from skinkit.commands._output import MARK
from skinkit.errors import InputError
from skinkit.learning.pack import INDEX
from skinkit.options import Option
from skinkit.reporting.export_table import COLUMNS
from skinkit.stages import STAGES
from skinkit.workspace import Ref, Workspace

OUTPUTS = [(name, option) for name in COMMANDS for option in own_options(name) if option.help.writes]
NAMES_NO_OUTPUT = {
    "against", "agree", "allow_leakage", "allow_untrained", "arms", "artefacts", "artifact", "attribute",
    "backbone", "budget", "by", "card", "case", "channels", "classes", "clinical", "cluster", "cohort", "cohorts",
    "data", "declared", "dermoscopic", "domains", "draft", "features", "file", "fused", "image", "import_file",
    "labels", "lang", "leave_out", "malignant", "margin", "mask", "masks", "members", "model", "models", "name",
    "objective", "one_seed", "only", "onnx", "order", "outlines", "paper", "per_class", "post", "preset",
    "primary",
    "protocols", "pseudonymise", "reidentify", "report_backbone", "report_weights", "row", "seeds", "segmenter",
    "segmenter_settings", "settings", "sha256", "shares", "since", "source", "split", "start", "strengths", "synthetic",
    "system", "table", "target", "tasks", "teacher", "thresholds", "training", "truth_column", "tuned_weights", "veto",
    "weights", "weights_of",
    "cert", "host", "key", "patient", "record",
}  # fmt: skip
"""Text options that name no output. A new one is entered here, or says in its ``Help`` what it ``writes``."""
EXEMPT = {("ingest", "folder"): "a cohort's own folder; its cohort.toml is never overwritten"}


def test_every_option_says_whether_it_names_an_output() -> None:
    texts = [
        (name, option.name)
        for name in (*STAGES, *COMMANDS)
        for option in own_options(name)
        if "str" in str(option.type) and "Literal" not in str(option.type) and not option.help.writes
    ]
    unsaid = [one for one in texts if one[1] not in NAMES_NO_OUTPUT and one not in EXEMPT]
    assert unsaid == []
    assert {option.help.writes for _, option in OUTPUTS} == {
        "table", "bundle", "pack", "folder", "workspace", "downloads", "scratch", "key"
    }  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace to work in: one cohort within, one outside of it, photos in both, and an artifact."""
    made = make_workspace(tmp_path / "w", {"ward": "inference"}, model="m")
    hospital = tmp_path / "hospital"
    hospital.mkdir()
    with (made.root / "skinkit.toml").open("a", encoding="utf-8") as stream:
        stream.write(f'\n[cohorts.jinan]\nrole = "external"\nsource = "folder"\npath = "{hospital}"\n')
    for folder in (hospital, made.root / "ward"):
        (folder / "photo.jpg").write_bytes(b"a photo of a patient, of more bytes than a key has" * 2000)
    row = {"image_id": "a", "case_id": "a", "status": "failed", "reason": "image_empty"}
    write(made, Ref("cases", "ward"), [row])
    write(made, Ref("predictions", "ward", "m"), [])
    monkeypatch.chdir(made.root)
    return made


def command(name: str, option: Option, value: Path | str) -> list[str]:
    """A command line that gives this option alone."""
    return [name, str(value)] if option.help.positional else [name, option.flag, str(value)]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder."""
    paths = sorted(path for path in folder.rglob("*") if ".lock" not in path.name)
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


def assert_refused(
    words: list[str], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int = 2
) -> None:
    """The command ends with that exit code, says what it found, and touches nothing."""
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == {2: "ConfigError", 5: "RefusedError"}[code]
    assert found in error["found"]
    assert error["expected"]
    assert error["fix"]
    assert snapshot(tmp_path) == before


def test_a_workspace_in_a_cohorts_folder_may_be_written_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_workspace(tmp_path / "hospital" / "w", {"ward": "inference"}, model="m")
    settings = made.root / "skinkit.toml"
    settings.write_text(settings.read_text("utf-8").replace('path = "ward"', 'path = ".."'), encoding="utf-8")
    (tmp_path / "hospital" / "cohort.toml").touch()
    write(made, Ref("cases", "ward"), [])
    write(made, Ref("predictions", "ward", "m"), [])
    monkeypatch.chdir(made.root)
    assert main(["export", "--csv", "out.csv"]) == 0
    assert_refused(["export", "--csv", "artifacts/out.csv"], "the artifacts", tmp_path, capsys)
    assert_refused(["export", "--csv", "../out.csv"], "cohort", tmp_path, capsys)


def test_predictions_of_a_file_replace_only_such_a_table(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check comes before the ONNX file is opened."""
    given = ["predict", "--onnx", "absent.onnx", "--csv"]
    assert_refused([*given, "not/mounted/out.csv"], "no folder", tmp_path, capsys)
    assert_refused([*given, "ward/photo.jpg"], "ward", tmp_path, capsys)
    assert_refused([*given, "skinkit.toml"], "did not write", tmp_path, capsys)
    (tmp_path / "w" / "old.csv").write_text("cohort,case_id,level,status,reason,top1,malignancy\n", encoding="utf-8")
    assert main([*given, "old.csv"]) == 4  # it may; there is no file to predict with
    assert main([*given, "new.csv"]) == 4


every_output = pytest.mark.parametrize(
    ("name", "option"), OUTPUTS, ids=[f"{name} {option.name}" for name, option in OUTPUTS]
)


@every_output
def test_an_absent_folder_is_not_made(
    name: str, option: Option, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share = tmp_path / "not" / "mounted" / "share"
    assert_refused(command(name, option, share), "no folder", tmp_path, capsys)
    assert_refused(command(name, option, "not/here"), "no folder", tmp_path, capsys)


@every_output
def test_nothing_is_written_among_photos_or_artifacts(
    name: str, option: Option, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = tmp_path / "another"
    (described / "images").mkdir(parents=True)
    (described / "cohort.toml").touch()
    (tmp_path / "link").symlink_to(tmp_path / "hospital")
    for folder in (
        workspace.root / "ward",
        tmp_path / "hospital",
        tmp_path / "link",
        described / "images",
        workspace.artifacts,
        workspace.artifacts / "ward" / "cases",
        tmp_path / "w" / "ward" / ".." / "ward",
    ):
        assert_refused(command(name, option, folder / "new"), f"{folder / 'new'} is in ", tmp_path, capsys)
    assert_refused(command(name, option, tmp_path / "hospital"), "is in ", tmp_path, capsys)


@every_output
def test_a_file_that_skinkit_did_not_write_stays(
    name: str, option: Option, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photo" * 20_000)
    table = tmp_path / "table.csv"
    table.write_text("accession,patient,ours,model_hash\n1,2,3,4\n", encoding="utf-8")
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("photo.jpg", b"a photo")
    for file in (photo, table, archive, workspace.root / "skinkit.toml"):
        more = ["--replace"] if option.help.writes == "pack" else []
        code = 5 if option.help.writes == "key" else 2  # read as a key, which it is not
        if option.help.writes == "key" and file in (table, archive):
            continue
        assert_refused([*command(name, option, file), *more], "", tmp_path, capsys, code)


@every_output
def test_what_is_no_file_or_no_folder_is_refused(
    name: str, option: Option, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "w" / "skinkit.toml")
    os.mkfifo(tmp_path / "pipe")
    for path in ("folder", "link", "pipe"):
        if (path == "folder") == (option.help.writes in ("table", "pack", "key")) or path != "folder":
            before = sorted(tmp_path.rglob("*"))
            assert main(command(name, option, tmp_path / path)) in (2, 5)
            assert sorted(tmp_path.rglob("*")) == before
    assert_refused(command(name, option, tmp_path / ("x" * 300)), "x" * 300, tmp_path, capsys)
    assert_refused(command(name, option, "~no-such-user/x"), "~no-such-user", tmp_path, capsys)


FOLDERS = [(name, option) for name, option in OUTPUTS if option.help.writes == "folder"]


@pytest.mark.parametrize(("name", "option"), FOLDERS, ids=[name for name, _ in FOLDERS])
def test_a_folder_of_other_files_stays_as_it_is(
    name: str, option: Option, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine", encoding="utf-8")
    assert_refused(command(name, option, mine), "did not write", tmp_path, capsys)
    assert main(command(name, option, tmp_path / "new")) in (2, 4)  # there is nothing to work on
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    assert main(command(name, option, tmp_path / "empty")) in (2, 4)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_folder_is_written_to_again_and_again(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert main(["flow", "--cohort", "ward", "--out", str(out)]) == 0
        assert (out / MARK).is_file()
        assert (out / "flow.csv").is_file()
    (tmp_path / "empty").mkdir()
    assert main(["flow", "--cohort", "ward", "--out", str(tmp_path / "empty")]) == 0
    older = tmp_path / "older"
    older.mkdir()
    (older / "flow.csv").write_text("from before folders were marked", encoding="utf-8")
    assert main(["flow", "--cohort", "ward", "--out", str(older)]) == 2
    (older / MARK).touch()
    assert main(["flow", "--cohort", "ward", "--out", str(older)]) == 0


def test_in_a_marked_folder_the_files_of_others_stay(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flow = ["flow", "--cohort", "ward", "--out", str(out)]
    out.mkdir()
    assert main(flow) == 0
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(flow) == 0  # beside ours it disturbs nobody
    ours = (out / "flow.csv").read_bytes()
    (out / "flow.csv").write_text("corrected by hand", encoding="utf-8")
    for _ in range(2):  # also after a command that failed
        answer = run_here(*flow, "-w", workspace.root, "--json")
        assert answer.returncode == 2
        assert f"{out / 'flow.csv'} is a file that skinkit did not write" in json.loads(answer.stdout)["error"]["found"]
        assert (out / "flow.csv").read_text("utf-8") == "corrected by hand"
    (out / "flow.csv").rename(out / "corrected.csv")
    assert main(flow) == 0
    assert (out / "flow.csv").read_bytes() == ours
    assert (out / "notes.txt").read_text("utf-8") == "mine"
    assert (out / "corrected.csv").read_text("utf-8") == "corrected by hand"


def test_what_a_killed_command_wrote_is_replaced(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flow = ["flow", "--cohort", "ward", "--out", str(out)]
    assert main(flow) == 0
    (out / MARK).write_text(json.dumps({"kept": ["notes.txt"]}), encoding="utf-8")  # as while a command writes
    for name in ("flow.csv", "notes.txt"):
        (out / name).write_text("half", encoding="utf-8")
    assert main(flow) == 0
    assert (out / "flow.csv").read_text("utf-8") != "half"
    assert (out / "notes.txt").read_text("utf-8") == "half"


def test_a_private_workspace_makes_private_outputs(workspace: Workspace, tmp_path: Path) -> None:
    file = workspace.root / "skinkit.toml"
    file.write_text(file.read_text("utf-8").replace("[workspace]", "[workspace]\nprivate = true", 1), encoding="utf-8")
    before = os.umask(0o022)
    try:
        assert main(["flow", "--cohort", "ward", "--out", str(tmp_path / "out")]) == 0
        os.umask(0o022)
        assert main(["export", "--csv", str(tmp_path / "out.csv")]) == 0
    finally:
        os.umask(before)
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"), tmp_path / "out.csv"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("form", [["--encoding", "utf-8-sig", "--crlf"], ["--encoding", "gb18030"], []])
def test_a_table_replaces_its_earlier_self(workspace: Workspace, tmp_path: Path, form: list[str]) -> None:
    file = tmp_path / "out.csv"
    for _ in range(2):
        assert main(["export", "--csv", str(file), *form]) == 0
        assert b"image_empty" in file.read_bytes()
    file.write_text(",".join(COLUMNS[:20]) + "\n", encoding="utf-8")  # of the version before 'change'
    assert main(["export", "--csv", str(file)]) == 0
    file.write_bytes(b"")  # mktemp
    assert main(["export", "--csv", str(file)]) == 0
    assert b"image_empty" in file.read_bytes()


def test_a_pack_is_known_by_its_index(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.skinkit"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr(INDEX, b"{}")
    words = ["models", "pack", "m", "--output", str(file)]
    assert_refused(words, "exists", tmp_path, capsys, 5)
    assert main([*words, "--replace"]) == 4  # there is no model m
    (workspace.root / "m.skinkit").write_bytes(b"something else")
    assert_refused(["models", "pack", "m", "--replace"], "did not write", tmp_path, capsys)  # the default name


def test_a_demo_replaces_no_workspace_that_has_sources(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace.root / "sources").mkdir()
    assert_refused(["demo", str(workspace.root), "--draw-only"], "is not empty", tmp_path, capsys, 5)
    again = ["demo", str(tmp_path / "demo"), "--draw-only", "--tables", "--lesions", "6"]
    for drawn in (False, True):
        assert (tmp_path / "demo").exists() is drawn
        assert main(again) == 0


# ------------------------------------------------------------------------------------------------------ temporary files

_KILLED = """
import os, signal, sys
from pathlib import Path
from skinkit.artifacts.files import written_whole

with written_whole(Path(sys.argv[1]), outside=True) as stream:
    stream.write(b"real ids" * 100_000)
    stream.flush()
    os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_output_leaves_nothing(tmp_path: Path, number: int) -> None:
    file = tmp_path / "out.csv"
    file.write_bytes(b"earlier")
    words = [sys.executable, "-c", _KILLED, str(file), str(int(number))]
    assert subprocess.run(words, capture_output=True, check=False).returncode != 0
    assert file.read_bytes() == b"earlier"
    left = [path.name for path in tmp_path.iterdir() if path != file]
    if left and number == signal.SIGKILL:  # a file system on which every file has a name
        write_atomic(file, b"later", outside=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_what_a_killed_run_left_is_removed_unless_it_is_being_written(tmp_path: Path) -> None:
    file = tmp_path / "out[1].csv"
    left, busy = (tmp_path / f".out[1].{digit * 16}.tmp" for digit in "ab")
    other = tmp_path / f".out.{'c' * 16}.tmp"
    for path in (left, busy, other):
        path.write_bytes(b"real ids")
    with busy.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        write_atomic(file, b"new", outside=True)
    assert sorted(tmp_path.iterdir()) == sorted([file, busy, other])
    assert file.read_bytes() == b"new"


def test_a_folder_that_went_away_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        write_atomic(tmp_path / "share" / "out.csv", b"rows", outside=True)
    assert "its folder is gone" in refused.value.found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_an_output_has_the_mode_that_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):
            write_atomic(tmp_path / "out.csv", b"rows", outside=True)
            assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)
