"""The shape of the house: imports go one way, every help is instant, and every command is documented."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import skinkit
from skinkit.commands import COMMANDS
from skinkit.stages import MAKER, STAGES, load_stage

ROOT = Path(skinkit.__file__).parent
LAYERS = (
    {"skinkit"},
    {"errors"},
    {"options", "schemas", "taxonomy", "console", "workspace", "file_names", "pseudonyms", "csv_text", "file_modes"},
    {"artifact", "row_dates"},
    {
        "images", "masks", "metadata", "leakage", "losses", "metrics", "attribution", "figures", "radiomics", "data",
        "models", "weights", "phantoms", "reporting", "evaluation", "calibration", "cross_fit", "drift", "looks",
        "contract", "photo_classifier", "integrated_gradients", "snapshot", "faithfulness", "panels", "studies",
        "regression", "signature", "protocols", "experts",
        "model_pack", "selection", "flow", "synthesis", "operating_point", "handover", "identifying",
    },
    {"executor", "examples", "augment", "fit", "infer", "training", "file_traces", "shortcuts", "penultimate"},
    {"stages"},
    {"pipeline"},
    {"commands"},
    {"cli", "__main__"},
)  # fmt: skip
LAYER = {name: number for number, layer in enumerate(LAYERS) for name in layer}
HEAVY = ("numpy", "pandas", "pyarrow", "torch", "pydantic", "PIL", "scipy", "sklearn", "rich")


def layer_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "skinkit" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} if node.module != "skinkit" else {f"skinkit.{a.name}" for a in node.names}
    return {name.split(".")[1] for name in names if name.startswith("skinkit.")} - {"__version__"}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    here = layer_name(path)
    wrong = {name for name in imports(path) if name != here and LAYER[name] > LAYER[here]}
    assert not wrong, f"{here} may not import {sorted(wrong)}"


def test_only_cli_prints_or_exits() -> None:
    offenders = []
    for path in ROOT.rglob("*.py"):
        if path.name in ("cli.py", "__main__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "sys.exit", "exit", "quit", "pickle.load", "pickle.loads", "eval", "exec"):
                offenders.append(f"{path.relative_to(ROOT)}:{node.lineno} {called}")  # type: ignore[attr-defined]
    assert offenders == []


@pytest.mark.parametrize("command", ["", *STAGES, *COMMANDS])
def test_help_is_instant_and_loads_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from skinkit.cli import main; code = main(sys.argv[1:]);"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; sys.exit(code or bool(heavy) and str(heavy))"
    )
    arguments = [sys.executable, "-c", code, *command.split(), "--help"]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        answer = subprocess.run(arguments, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
        assert answer.returncode == 0, answer.stderr
    assert "Usage: skinkit" in answer.stdout
    # The figure is stated for an idle machine; here it only guards against a heavy import slipping in.
    assert min(seconds) < 1.0


def test_every_kind_has_a_maker_and_every_stage_its_shape() -> None:
    assert set(MAKER.values()) == set(STAGES)
    for name in STAGES:
        stage = load_stage(name)
        assert MAKER[stage.SCHEMA.kind] == name
        assert stage.VERSION >= 1
        assert (stage.__doc__ or "").startswith(f"{name}: ")


def test_the_readme_lists_every_command() -> None:
    readme = (ROOT.parent / "README.md").read_text(encoding="utf-8")
    missing = [name for name in (*STAGES, *COMMANDS) if f"`skinkit {name}" not in readme]
    assert missing == []
