"""The shape of the house: imports go one way, every help is instant, and every command is documented."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skinkit
from skinkit.commands import COMMANDS
from skinkit.stages import MAKER, STAGES, load_stage

ROOT = Path(skinkit.__file__).parent
ORDER = (
    {"skinkit"},
    {"errors", "console", "schemas"},
    {"options", "taxonomy", "artifacts"},
    {"privacy", "images", "stats", "radiomics"},
    {"workspace", "explain", "workers"},
    {"data", "models"},
    {"contract", "signature"},
    {"figures"},
    {"evaluation", "audit"},
    {"learning"},
    {"studies", "reporting"},
    {"exchange"},
    {"stages"},
    {"pipeline"},
    {"api"},
    {"capture"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
"""The rooms and the modules of the root: a room imports from those before it, never from one after it."""
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
HEAVY = ("numpy", "pandas", "pyarrow", "torch", "pydantic", "PIL", "scipy", "sklearn", "rich", "distributed", "dask")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room_of(module: str) -> str:
    """A folder or a module of the root; the parts that models share are a room of their own."""
    if module.startswith("skinkit.models.parts"):
        return "models.parts"
    return ([*module.split("."), "skinkit"])[1] if module != "skinkit" else "skinkit"


def imports(path: Path) -> set[str]:
    """Modules of skinkit that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {full if full in MODULES else node.module for full in inside.values()}
    return names & set(MODULES)


ARROWS = {module: imports(path) - {module} for module, path in MODULES.items()}


def assert_no_circle(arrows: dict[str, set[str]]) -> None:
    try:
        tuple(TopologicalSorter(arrows).static_order())
    except CycleError as error:
        pytest.fail("imports go in a circle: " + " <- ".join(error.args[1]))


def test_the_root_holds_the_rooms_and_nothing_else() -> None:
    rooms = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} <= set(RANK)
    tests = {path.name for path in Path(__file__).parent.iterdir() if any(path.glob("test_*.py"))}
    assert tests <= rooms


@pytest.mark.parametrize("module", ARROWS)
def test_imports_go_one_way(module: str) -> None:
    here = room_of(module).partition(".")[0]
    wrong = {other for other in ARROWS[module] if RANK[room_of(other).partition(".")[0]] > RANK[here]}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_no_imports_go_in_a_circle() -> None:
    assert_no_circle(ARROWS)
    rooms: dict[str, set[str]] = {}
    for module, others in ARROWS.items():
        rooms.setdefault(room_of(module), set()).update({room_of(other) for other in others} - {room_of(module)})
    assert_no_circle(rooms)


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


OF_MODELS = ("models/__init__.py", "contract.py", "learning", "stages", "explain", "evaluation", "commands")
"""Where models are used: what a model has is said by its base class, not found out."""
PROBED = {
    ("models/__init__.py", "MODEL"): "an entry point names a class, or the module around it",
    ("commands/_command_line.py", "SHARES"): "of a stage",
    ("commands/_command_line.py", "OF_MODEL"): "of a stage",
    ("commands/_command_line.py", "SHARED_OPTIONS"): "of a command's file",
    ("commands/_command_line.py", "rich_help_panel"): "of a parameter of typer",
    ("commands/doctor.py", "__version__"): "of an installed package",
}


def probes(tree: ast.AST) -> set[str]:
    """Names that are looked for with ``hasattr``, or with ``getattr`` and a default."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    asked = [
        call.args[1]
        for call in calls
        if ast.unparse(call.func) == "hasattr" or (ast.unparse(call.func) == "getattr" and len(call.args) == 3)
    ]
    return {str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name) for name in asked}


def test_models_are_not_probed_for_attributes() -> None:
    files = [
        file
        for place in OF_MODELS
        for file in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
    ]
    probed = {
        (file.relative_to(ROOT).as_posix(), name)
        for file in files
        for name in probes(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert probed == set(PROBED)
    assert probes(ast.parse("hasattr(model, 'fit') or getattr(model, name, None) or getattr(model, 'b')")) == {
        "fit",
        "name",
    }


def heavy_after(*commands: str) -> dict[str, list[str]]:
    """Each command -> the heavy modules that were loaded when its help had been shown, in one process."""
    code = (
        "import contextlib, io, json, sys\n"
        "from skinkit.cli import main\n"
        "found = {}\n"
        "for command in sys.argv[1:]:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as told:\n"
        "        assert main([*command.split(), '--help']) == 0, command\n"
        "    assert 'Usage: skinkit' in told.getvalue(), command\n"
        f"    found[command] = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps(found))"
    )
    answer = subprocess.run([sys.executable, "-c", code, *commands], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, list[str]] = json.loads(answer.stdout)
    return found


def test_no_help_loads_anything_heavy() -> None:
    assert heavy_after("") == {"": []}
    commands = (*STAGES, *COMMANDS)
    assert heavy_after(*commands) == {command: [] for command in commands}


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


def test_what_plug_ins_import_is_in_the_rooms_they_register_with() -> None:
    from skinkit import data, models
    from skinkit.contract import check_model
    from skinkit.radiomics import extract

    assert callable(check_model)
    assert callable(extract)
    of_models = ("Augment", "DrawingRule", "Embedder", "Estimator", "Labelled", "Model", "Network", "Phase", "Sizes")
    of_data = ("Arrangement", "Dialect", "Draw", "Join", "Source", "TableRow")
    assert [name for name in of_models if not hasattr(models, name)] == []
    assert [name for name in of_data if not hasattr(data, name)] == []
