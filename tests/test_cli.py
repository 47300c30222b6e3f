"""The command line as users and their scripts meet it: exit codes, JSON on every exit, signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import run_here, run_skinkit

from skinkit import __version__, cli
from skinkit.cli import EXIT_CODES
from skinkit.commands import CHAIN, COMMANDS, PANELS, panels_of
from skinkit.commands._command_line import flags_of, own_options, passed_values
from skinkit.console import Console
from skinkit.errors import ConfigError
from skinkit.stages import STAGES
from skinkit.workspace import load_workspace


def test_version_and_bare_call() -> None:
    assert run_skinkit("--version").stdout.strip() == f"skinkit {__version__}"
    assert run_here("-V").stdout.strip() == f"skinkit {__version__}"
    assert run_here().stdout == run_here("--help").stdout


def test_threads_that_wait_leave_the_processor_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for stated, spins in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)):
        for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in stated.items():
            monkeypatch.setenv(name, value)
        assert cli.main(["-V"]) == 0
        assert os.environ.get("GOMP_SPINCOUNT") == spins
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)


def test_the_overview_shows_every_command_under_its_panel(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"\n{panel}:\n") for panel in PANELS]
    assert places == sorted(places)
    for start, end, table in zip(places, [*places[1:], len(shown)], PANELS.values(), strict=True):
        assert [line.split()[0] for line in shown[start:end].splitlines() if line[:3].strip()][1 : len(table) + 1] == (
            list(table)
        )


def test_a_command_is_added_by_its_file_alone(tmp_path: Path) -> None:
    own = Path(cli.__file__).parent / "commands"
    names = sorted(file.stem for file in own.glob("[a-z]*.py"))
    assert names == sorted(COMMANDS)
    for name in names:
        shutil.copy(own / f"{name}.py", tmp_path)
    (tmp_path / "tones.py").write_text('"""tones: count the tones of skin."""\n\nPANEL = "Look", 2\n')
    added = panels_of(tmp_path)
    assert added.pop("Look") == {**PANELS["Look"], "tones": "Count the tones of skin."}
    assert added == {panel: table for panel, table in PANELS.items() if panel != "Look"}
    assert added[CHAIN] == STAGES


def test_a_command_file_without_its_panel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tones.py").write_text('"""tones: count the tones of skin."""\n\nPANEL = "Tones", 2\n')
    with pytest.raises(ImportError, match="tones"):
        panels_of(tmp_path)


@pytest.mark.parametrize("name", [*STAGES, *COMMANDS])
def test_the_help_of_a_command_shows_its_own_options_first_and_rare_ones_last(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["help", name]) == 0
    shown = capsys.readouterr().out
    headings = [heading for heading in ("Arguments", "This command", "Common", "Rarely") if f"\n{heading}:\n" in shown]
    places = [shown.index(f"\n{heading}:\n") for heading in headings]
    assert places == sorted(places)
    common, rarely = shown.index("\nCommon:\n"), shown.index("\nRarely:\n")
    assert common < shown.index("\n  --json ") < rarely < shown.index("\n  --log-format ")
    assert "Exit codes: 0 done" in shown


def test_one_option_chooses_the_model_in_every_command_that_reads_one(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "trained model, as 'skinkit models list' names it"
    reads = (
        "synthesise",
        "predict",
        "explain",
        "evaluate",
        "report",
        "export",
        "drift",
        "models",
        *_STUDIES,
        "compare",
        "curves",
    )
    for name in reads:
        assert cli.main([name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "--model NAME" in shown, name
        assert sentence in " ".join(shown.split()), name


_STUDIES = ("missing", "faithful", "localise", "snapshots", "embed")


@pytest.mark.parametrize(
    "given",
    [
        *([stage, "--model", "absent"] for stage in ("predict", "explain", "evaluate", "report", "export", "drift")),
        *([stage, "--name", "absent"] for stage in ("predict", "explain", "evaluate")),
        *([study, "--model", "absent"] for study in _STUDIES),
        *([study, "absent"] for study in _STUDIES),
        ["compare", "--model", "absent", "--model", "lightgbm"],
        ["compare", "absent", "lightgbm"],
        ["curves", "--model", "absent"],
        ["models", "pack", "absent"],
        ["models", "pack", "--model", "absent"],
        ["models", "verify", "absent"],
    ],
    ids=" ".join,
)
def test_a_model_of_an_unknown_name_is_the_same_error_everywhere(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohorts = "".join(
        f"[cohorts.{name}]\nrole = '{role}'\nsource = 'folder'\npath = '.'\n"
        for name, role in (("here", "development"), ("there", "external"))
    )
    (tmp_path / "skinkit.toml").write_text(cohorts)
    assert cli.main([*given, "-w", str(tmp_path), "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "InputError"
    assert error["found"] == f"no model 'absent' in {tmp_path}"


def test_the_model_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "skinkit.toml").write_text("")
    for given in (["predict", "--name", "a", "--model", "b"], ["embed", "a", "--model", "b"]):
        assert cli.main([*given, "-w", str(tmp_path), "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["kind"] == "ConfigError"


def test_the_former_spelling_of_score_is_told_the_whole_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--out", "my folder", "--cohort", "x", "--predictions", "a.csv", "--near-bits", "-1", "--json"]
    assert cli.main(["evaluate", *given]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "ConfigError"
    assert error["fix"] == "skinkit score a.csv --out 'my folder' --near-bits -1 --json"


def test_an_option_has_one_name_and_is_still_read_by_its_former_one() -> None:
    assert "--cases" in flags_of("explain")
    assert "--limit" not in flags_of("explain")
    options = own_options("explain")
    assert passed_values(options, {"cases": 4}) == {"cases": 4}
    assert passed_values(options, {"cases_by_former_name": 0}) == {"cases": 0}
    with pytest.raises(ConfigError, match="4 and --cases 5"):
        passed_values(options, {"cases": 4, "cases_by_former_name": 5})


def test_a_former_spelling_is_taken_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "skinkit.toml").write_text("")
    found = []
    for spelling in ("--count", "--cases"):
        assert cli.main(["gallery", spelling, "0", "-w", str(tmp_path), "--json"]) == 2
        found.append(json.loads(capsys.readouterr().out)["error"]["found"])
    assert found == ["--cases 0"] * 2


def test_bash_completes_commands_options_and_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _skinkit; echo ${{COMPREPLY[*]}}"
        return subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, check=True).stdout.split()

    assert completed("skinkit", "pre") == ["predict"]
    assert completed("skinkit", "predict", "--mo") == ["--model"]
    assert completed("skinkit", "predict", "--device", "") == ["auto", "cpu", "cuda"]
    assert completed("skinkit", "models", "in") == ["install"]
    assert set(completed("skinkit", "")) >= {*STAGES, *COMMANDS, "help"}
    for shell in ("zsh", "fish"):
        assert cli.main(["completion", shell]) == 0
        told = capsys.readouterr().out
        assert all(name in told for name in (*STAGES, *COMMANDS))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (("predict", "--dev"), {"--device"}),
        (("predict", "--device", ""), {"auto", "cpu", "cuda"}),
        (("models", ""), {"install", "pack"}),
        (("trai",), {"train"}),
    ],
)
def test_other_shells_complete_commands_options_and_values(
    shell: str, line: tuple[str, ...], offered: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    assert cli.main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")
    if shell == "fish":
        asked = f"source {tmp_path}/script; complete -C 'skinkit {' '.join(line)}'"
    else:  # what zsh's completion system would be told
        words = " ".join(f"'{word}'" for word in ("skinkit", *line))
        asked = (
            "compadd() { shift; print -l -- $@; }; _describe() { print -l -- ${(P)2%%:*}; }; "
            f"words=({words}); CURRENT={len(line) + 1}; source {tmp_path}/script"
        )
    options = ["-c"] if shell == "fish" else ["-f", "-c"]
    answer = subprocess.run([shell, *options, asked], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert answer.stderr == ""
    assert {row.split("\t")[0] for row in answer.stdout.splitlines()} >= offered


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["segmet"], "did you mean 'segment'"),
        (["segment", "--sise", "3"], "No such option: --sise"),
        (["predict", "--modle", "x"], "did you mean '--model'"),
        (["version"], "did you mean '--version'"),
        (["plan"], "did you mean 'run --plan'"),
        (["segment", "--jobs", "many"], "'--jobs'"),
        (["radiomics", "--engine", "slow"], "--engine slow"),
        (["radiomics", "--image", "x.jpg"], "only one of --image and --mask"),
        (["status", "-w", "/nowhere"], "no skinkit.toml"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what_to_do(arguments: list[str], found: str, tmp_path: Path) -> None:
    answer = run_here(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert found in answer.stderr
    assert "expected:" in answer.stderr
    assert "fix:" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("arguments", [["segment", "--jobs", "x"], ["nonsense"], ["status"], ["train"]])
def test_json_is_one_object_also_when_it_fails(arguments: list[str], tmp_path: Path) -> None:
    answer = run_here(*arguments, "--json", cwd=tmp_path)
    body = json.loads(answer.stdout)
    assert body["exit_code"] == answer.returncode == 2
    assert set(body["error"]) == {"kind", "found", "expected", "fix"}


def test_init_makes_a_workspace_and_never_overwrites_one(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    given = f"clinic=folder:{tmp_path / 'photos'}:external"
    assert run_here("init", tmp_path / "w", "--cohort", given, "--model", "lightgbm").returncode == 0
    workspace = load_workspace(tmp_path / "w")
    assert workspace.cohort("clinic").role == "external"
    assert workspace.cohort("clinic").root == tmp_path / "photos"
    assert workspace.defaults["model"] == "lightgbm"
    before = (tmp_path / "w" / "skinkit.toml").read_bytes()
    assert run_here("init", tmp_path / "w").returncode == 5
    assert (tmp_path / "w" / "skinkit.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("cohort", "found"),
    [
        ("clinic", "NAME=SOURCE:PATH"),
        ("clinic=foldr:/tmp", "did you mean 'folder'"),
        ("clinic=folder:/no/such/place", "no folder"),
        ("models=folder:/tmp", "the name 'models'"),
    ],
)
def test_init_refuses_cohorts_it_cannot_use(cohort: str, found: str, tmp_path: Path) -> None:
    answer = run_here("init", tmp_path / "w", "--cohort", cohort)
    assert answer.returncode == 2
    assert found in answer.stderr
    assert not (tmp_path / "w" / "skinkit.toml").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[workspace]\nsegmentor = 'otsu'\n", "did you mean 'segmenter'"),
        ("[workspace\n", "TOML"),
        ("[cohorts.a]\nrole = 'training'\nsource = 'folder'\npath = '.'\n", "role 'training'"),
        ("[cohorts.a]\nrole = 'external'\nsource = 'folder'\n", "has no path"),
        ("[cohort.a]\n", "unknown table [cohort]"),
        ("[stage.segment]\nmodle = 'otsu'\n[cohorts.a]\nrole='external'\nsource='folder'\npath='.'\n", "'modle'"),
    ],
)
def test_a_wrong_settings_file_is_named_with_its_fault(text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "skinkit.toml").write_text(text)
    answer = run_here("segment", "-w", tmp_path)
    assert answer.returncode == 2
    assert found in answer.stderr


def test_an_external_cohort_must_have_that_role(tmp_path: Path) -> None:
    (tmp_path / "skinkit.toml").write_text("[cohorts.a]\nrole = 'development'\nsource = 'folder'\npath = '.'\n")
    answer = run_here("evaluate", "--external", "a", "-w", tmp_path)
    assert answer.returncode == 2
    assert "its role is development" in answer.stderr


def test_the_log_is_one_json_object_a_line_with_run_stage_and_case(demo_copy: Path) -> None:
    answer = run_here(
        "segment", "--name", "again", "--model", "otsu", "--cohort", "walk_in", "--log-format", "json", "-w", demo_copy
    )
    lines = [json.loads(line) for line in answer.stderr.splitlines()]
    cases = [line for line in lines if line["event"] == "case"]
    photos = list((demo_copy / "sources" / "walk_in" / "images").iterdir())
    assert {line["case"] for line in cases} == {photo.stem for photo in photos}
    assert len({line["run_id"] for line in lines}) == 1
    assert {line["stage"] for line in cases} == {"segment"}
    assert all(line["duration_s"] >= 0 for line in cases)
    assert run_here("segment", "--quiet", "--cohort", "walk_in", "-w", demo_copy).stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_end_it_with_their_code_and_it_goes_on_afterwards(number: int, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert run_here("demo", folder, "--lesions", "60", "--tables", "--draw-only").returncode == 0
    command = [sys.executable, "-m", "skinkit", "segment", "-w", str(folder), "--jobs", "1", "--json"]
    partial = folder / "artifacts" / "phantoms" / "masks" / "otsu.partial"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(list((partial / "png").glob("*.png"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == code, err
    assert json.loads(out)["exit_code"] == code
    assert "interrupted" in err
    again = run_here("segment", "-w", folder, "--json", "--cohort", "phantoms")
    assert again.returncode == 0, again.stdout
    counts = json.loads(again.stdout)["steps"][-1]["counts"]
    assert counts["kept"] >= 1  # a worker has two cases in hand at most: of four masks the first two have their rows
    assert counts["rows"] == counts["ok"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_that_a_finalizer_swallows_ends_it_all_the_same(
    number: int, code: int, demo_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*_: object) -> None:
        with contextlib.suppress(BaseException):  # as Python does for what is raised in __del__
            signal.raise_signal(number)

    shutil.rmtree(demo_copy / "artifacts" / "walk_in" / "masks")
    command = ("segment", "--cohort", "walk_in", "-w", demo_copy, "--json")
    with monkeypatch.context() as patched:
        patched.setattr(Console, "case", swallow)
        answer = run_here(*command)
    assert (answer.returncode, json.loads(answer.stdout)["exit_code"]) == (code, code)
    assert run_here(*command).returncode == 0


@pytest.mark.parametrize("torn", [ImportError("partially initialized module"), OSError(9, "Bad file descriptor")])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_of_which_a_library_makes_another_error_keeps_its_code(
    number: int, code: int, torn: Exception, demo_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        try:
            signal.raise_signal(number)
        except BaseException as stop:
            raise torn from stop

    shutil.rmtree(demo_copy / "artifacts" / "walk_in" / "masks")
    with monkeypatch.context() as patched:
        patched.setattr(Console, "case", fail)
        answer = run_here("segment", "--cohort", "walk_in", "-w", demo_copy, "--json")
    assert (answer.returncode, json.loads(answer.stdout)["error"]["kind"]) == (code, "Interrupted")


def test_every_list_of_exit_codes_names_every_signal() -> None:
    root = Path(__file__).resolve().parent.parent
    files = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("examples/**/*.*"), *root.glob("skinkit/*.py")]
    assert {"129", "130", "143"} <= set(re.findall(r"\d+", EXIT_CODES))
    told = {
        file.name: line
        for file in files
        if file.is_file() and file.name != "CHANGELOG.md" and file.suffix != ".pyc"
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"\b130\b", line) and re.search(r"\b143\b", line)
    }
    assert {"README.md", "operations.md", "nightly.sh", "errors.py", "cli.py"} <= set(told)
    assert {name: line for name, line in told.items() if not re.search(r"\b129\b", line)} == {}


@pytest.mark.parametrize(
    ("words", "found", "known"),
    [
        (("list", "modles"), "modles", "did you mean 'models'?"),
        (("train", "--attributes", "pad82"), "--attributes pad82", "did you mean 'pad81'?"),
        (("radiomics", "--engine", "fats"), "--engine fats", "did you mean 'fast'? known: fast, pyradiomics"),
        (("--verson",), "No such option: --verson", "did you mean '--version'?"),
    ],
)
def test_a_value_out_of_a_list_is_answered_as_a_name_is(
    words: tuple[str, ...], found: str, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["found"] == found
    assert error["expected"].startswith(known)
    assert error["expected"].count(", ") <= 9


def test_the_version_is_one_json_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-V", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__
