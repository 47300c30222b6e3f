"""Every command that a text of skinkit names exists, with its options, and every option a fix names is of some command.

Texts are read out of the program's files: string constants and f-strings of the code, texts in TOML and templates.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import run_here
from written_artifacts import Said

import skinkit
from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import COMMANDS
from skinkit.commands._command_line import flags_of, values_of_first_argument
from skinkit.commands.run import run_chain
from skinkit.errors import InputError
from skinkit.models.parts.weights import LITE, PUBLIC, cached
from skinkit.pipeline import Pipeline
from skinkit.stages import STAGES
from skinkit.workspace import Ref, load_workspace

PACKAGE = Path(skinkit.__file__).parent
FILLED = "…"
"""Stands for what an f-string fills in."""
OPTIONS = {name: set(flags_of(name)) for name in (*STAGES, *COMMANDS)}
_QUOTED = re.compile(r"[`'“\"]skinkit ([^`'”\"]*)[`'”\"]")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_ELSEWHERE = {"--nworkers", "--nthreads", "--predictions"}
"""Options of dask's worker, and one that is found where it does not belong."""
_ERRORS = {"SkinkitError", "ConfigError", "InputError", "RefusedError", "BusyError"}
_NAMES_A_COMMAND = re.compile(r"[a-z][a-z-]*")


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_text(node.left), _text(node.right)]
        return "".join(side or FILLED for side in sides) if any(sides) else None
    return None


def _texts(file: Path) -> Iterator[str]:
    content = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        yield content
        return
    tree = ast.parse(content)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) not in inside and (text := _text(node)) is not None:
            yield text


def _files(*suffixes: str) -> list[Path]:
    return sorted(file for file in PACKAGE.rglob("*") if file.suffix in suffixes)


def test_every_command_that_a_text_names_exists_with_its_options() -> None:
    wrong, seen = [], 0
    for file in _files(".py", ".html", ".js", ".toml"):
        for text in _texts(file):
            for match in _QUOTED.finditer(text):
                words = match[1].replace("\n", " ").split()
                if not words or not _NAMES_A_COMMAND.fullmatch(words[0]) or "studies" in file.parts:
                    continue  # 'skinkit COMMAND', 'skinkit --help', and sentences that papers' files quote
                seen += 1
                where = f"{file.relative_to(PACKAGE)}: {match[0]}"
                if words[0] == "help":
                    words = words[1:] or ["help"]
                    if words[0] in (FILLED, "help", "COMMAND"):
                        continue
                if words[0] not in OPTIONS:
                    wrong.append(f"{where}: no command {words[0]}")
                    continue
                wrong += [
                    f"{where}: no option {each}" for each in _OPTION.findall(match[1]) if each not in OPTIONS[words[0]]
                ]
                values = values_of_first_argument(words[0])
                if values and len(words) > 1 and words[1].isalpha() and words[1].islower() and words[1] not in values:
                    wrong.append(f"{where}: {words[1]} is none of {values}")
    assert not wrong, "\n".join(wrong)
    assert seen > 150  # the search finds what it is to find


def test_every_option_that_a_fix_names_is_of_a_command() -> None:
    every = set().union(*OPTIONS.values()) | _ELSEWHERE
    wrong, seen = [], 0
    for file in _files(".py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in _ERRORS:
                continue
            for part in ast.walk(node):
                named = _OPTION.findall(_text(part) or "")
                seen += len(named)
                wrong += [f"{file.relative_to(PACKAGE)}:{node.lineno} {each}" for each in named if each not in every]
    assert not wrong, "\n".join(wrong)
    assert seen > 300


def test_a_fix_whose_options_are_of_another_command_says_of_which(demo_copy: Path) -> None:
    settings = demo_copy / "skinkit.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + "\n[stage.split]\nheld_out = 2.0\n", encoding="utf-8")
    fixes = {}
    for command in ("split", "select"):
        answer = run_here(command, "-w", demo_copy, "--json")
        assert answer.returncode == 2, answer.stderr
        fixes[command] = json.loads(answer.stdout)["error"]["fix"]
    assert "--held-out" in OPTIONS["split"] - OPTIONS["select"]
    assert fixes["split"] == "give --held-out 0.2"
    assert fixes["select"] == (
        "give --held-out 0.2 (--held-out: of 'skinkit split', or under [stage.split] of skinkit.toml)"
    )


@pytest.mark.parametrize("stated", ["", '[stage.train]\nweights = "resnet50"\n'])
def test_run_starts_from_installed_weights_where_no_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    if cached(PUBLIC[LITE]) is None or find_spec("timm") is None:
        pytest.skip("NO TORCH: the extra 'torch' brings the weights that networks start from")
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path / "empty"))
    workspace = load_workspace(_written_by_hand(tmp_path, stated))
    said = Said()
    if stated:
        with pytest.raises(InputError) as caught:
            run_chain(workspace, Pipeline(workspace, said))
        assert "no pretrained weights" in caught.value.found
        return
    run_chain(workspace, Pipeline(workspace, said))
    about = open_artifact(workspace.path(Ref("models", name="frozen_probe"))).json("model.json")
    assert about["settings"]["backbone"] == LITE
    assert f"backbone={LITE}" in said.text.getvalue()


def _written_by_hand(folder: Path, stated: str) -> Path:
    """A workspace with drawn lesions of one hospital, whose skinkit.toml names no model."""
    assert run_here("demo", folder / "demo", "--lesions", "20", "--draw-only", "--tables").returncode == 0
    (folder / "demo" / "skinkit.toml").write_text(
        f'{stated}[stage.train.frozen_probe]\nallow_untrained = "a dozen drawn lesions"\n'
        "[stage.split]\nheld_out = 0.3\nvalidation = 0.3\n[stage.explain]\nlimit = 1\n"
        '[workspace]\nclasses = "malignancy"\n'
        '[cohorts.phantoms]\nrole = "development"\nsource = "folder"\npath = "sources/phantoms"\nphantom = true\n',
        encoding="utf-8",
    )
    return folder / "demo"
