"""Packs whose hashes are all right and whose content is not: refused when they are installed, or harmless.

Whoever packs a model can put any bytes into it and compute every hash anew. The commands run in a process of their own,
because what is tested is that they neither end it by a signal nor let it hang.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_here

from skinkit.artifacts.artifact import manifest_bytes, open_artifact
from skinkit.artifacts.files import digest

pytestmark = pytest.mark.timeout(1800)
TREES, WIDTHS, MODEL = "classifier/fold_0/lightgbm.txt", "classifier/fold_0/lightgbm.json", "classifier/model.json"
FOLD, ATTRIBUTES = "classifier/fold_0/fold.json", "classifier/fold_0/attributes.json"
RADIOMICS = "classifier/fold_0/radiomics.json"


@pytest.fixture(scope="module")
def given(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Packs of two models, and a workspace of patients whose photos were measured and predicted."""
    folder = tmp_path_factory.mktemp("hostile")
    work = folder / "demo"
    subprocess.run(["cp", "-a", str(demo), str(work)], check=True)
    assert run_here("train", "--model", "logistic", "-w", work, "-j", "1").returncode == 0
    for name in ("lightgbm", "logistic"):
        assert run_here("models", "pack", name, "--output", folder / f"{name}.skinkit", "-w", work).returncode == 0
    server = folder / "server"
    cohort = f"walk_in=folder:{work / 'sources' / 'walk_in'}:inference"
    assert run_here("init", server, "--cohort", cohort).returncode == 0
    assert run_here("models", "install", folder / "lightgbm.skinkit", "-w", server).returncode == 0
    assert run_here("predict", "-w", server, "-j", "1").returncode == 0
    return folder, server


def resealed(pack: Path, target: Path, changes: Mapping[str, bytes]) -> Path:
    """The pack with other contents, and every size, hash and identity as if the model had been trained so."""
    with zipfile.ZipFile(pack) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    index = json.loads(members.pop("pack.json"))
    for member, data in changes.items():
        part, _, file = member.partition("/")
        sha256, manifest = hashlib.sha256(data).hexdigest(), index["parts"][part]["manifest"]
        index["files"][member] = {"bytes": len(data), "sha256": sha256}
        manifest["files" if file in manifest["files"] else "beside"][file] = sha256
        if file in manifest["installed"]["files"]:
            manifest["installed"]["files"][file] = sha256
        manifest["identity"] = digest([manifest["recipe"], manifest["installed"]["files"]])
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("pack.json", json.dumps(index))
        for name, data in {**members, **changes}.items():
            archive.writestr(name, data)
    return target


IN_TURN = """
import contextlib, io, json, shutil, sys
from pathlib import Path
from skinkit.cli import main

def run(*arguments):
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
        code = main([*arguments, "--json"])
    return code, (json.loads(told.getvalue()) or {}).get("error")

if __name__ == "__main__":
    server, predicts, *packs = sys.argv[1:]
    for pack in packs:
        models = Path(server) / "artifacts" / "models"
        before = sorted(p.name for p in models.iterdir() if not p.name.startswith("."))
        code, error = run("models", "install", pack, "--name", "evil", "-w", server)
        after = sorted(p.name for p in models.iterdir() if not p.name.startswith("."))
        clean = after == before if code else after == sorted([*before, "evil"])
        then = run("predict", "--model", "evil", "-w", server, "-j", "1") if code == 0 and predicts == "yes" else None
        print(json.dumps([code, error, clean, then]), flush=True)
        predictions = Path(server) / "artifacts" / "walk_in" / "predictions" / "evil"
        if predictions.exists():
            shutil.copy(predictions / "table.parquet", pack + ".parquet")
        shutil.rmtree(predictions, ignore_errors=True)
        shutil.rmtree(models / "evil", ignore_errors=True)
        for kind in ("masks", "features", "fused"):
            shutil.rmtree(Path(server) / "artifacts" / "walk_in" / kind / "evil", ignore_errors=True)
"""


def installed(server: Path, packs: Sequence[Path], *, predicts: bool) -> list[Any]:
    """Of each pack: exit code, error, whether nothing half done is left, and exit code and error of predict."""
    arguments = [sys.executable, "-c", IN_TURN, str(server), "yes" if predicts else "no", *map(str, packs)]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=6000)
    told = [json.loads(line) for line in answer.stdout.splitlines()]
    assert answer.returncode == 0, f"{packs[len(told)]}: {answer.returncode} {answer.stderr}"
    assert len(told) == len(packs)
    return told


def line(key: str, value: str) -> Callable[[bytes], bytes]:
    """Another line in the first tree that has one; ``{}`` stands for what follows its first value."""

    def change(content: bytes) -> bytes:
        found = next(re.finditer(rf"(?m)^{key}=\S+(.*)$", content.decode()))
        new = f"{key}={value.replace(' {}', found[1])}"
        head, *trees = re.split("(?m)^(?=Tree=)", content.decode().replace(found[0], new, 1))
        sizes = " ".join(str(len(tree.partition("end of trees")[0])) for tree in trees)
        return (re.sub("(?m)^tree_sizes=.*$", f"tree_sizes={sizes}", head) + "".join(trees)).encode()

    return change


def value(*path: str | int, to: Any) -> Callable[[bytes], bytes]:
    """Another value in a JSON file."""

    def change(content: bytes) -> bytes:
        whole = json.loads(content)
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return json.dumps(whole).encode()

    return change


def without(key: str) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({k: v for k, v in json.loads(content).items() if k != key}).encode()


def always(content: bytes) -> Callable[[bytes], bytes]:
    return lambda _: content


CASES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "trees cut": (TREES, lambda content: content[: len(content) // 2], "tree"),
    "no trees": (TREES, always(b""), "header"),
    "a feature that is no column": (TREES, line("split_feature", "99999 {}"), "split_feature 99999"),
    "a node that is its own child": (TREES, line("left_child", "0 {}"), "not after it"),
    "a child that is no node": (TREES, line("right_child", "1000 {}"), "right_child 1000"),
    "a leaf that is none": (TREES, line("right_child", "-1000 {}"), "right_child -1000"),
    "a leaf of NaN": (TREES, line("leaf_value", "nan {}"), "leaf_value"),
    "a leaf beyond numbers": (TREES, line("leaf_value", "1e999 {}"), "not finite"),
    "too few thresholds": (TREES, line("threshold", " {}"), "threshold of"),
    "categories out of nowhere": (TREES, line("decision_type", "1 {}"), "categories"),
    "sizes that lie": (TREES, lambda c: c.replace(b"tree_sizes=", b"tree_sizes=9", 1), "tree"),
    "classes that lie": (TREES, lambda c: c.replace(b"num_class=", b"num_class=9", 1), "num_tree_per_iteration"),
    "other widths": (WIDTHS, value("widths", "radiomics", to=10**12), "columns"),
    "widths of words": (WIDTHS, value("widths", "radiomics", to="x"), "TypeError"),
    "no JSON": (WIDTHS, always(b"{" * 100_000), "cannot be read"),
    "nested without end": (ATTRIBUTES, always(b"[" * 1_000_000), "cannot be read"),
    "a list for an object": (MODEL, always(b"[]"), "cannot be read"),
    "no folds": (MODEL, value("folds", to=[]), "0 folds"),
    "a threshold of NaN": (MODEL, value("threshold", to=float("nan")), "thresholds"),
    "no threshold": (MODEL, without("threshold"), "KeyError"),
    "an unknown model": (MODEL, value("model", to="../evil"), "evil"),
    "another task": (MODEL, value("task", to="segment"), "draws masks"),
    "no classes": (MODEL, value("classes", "classes", to=[]), "0 classes"),
    "more classes": (MODEL, value("classes", "classes", to=list("ABCDEFGHIJ")), "10 classes"),
    "temperature 0": (MODEL, value("folds", 0, "temperature", to=0), "temperature"),
    "a huge temperature": (MODEL, value("folds", 0, "temperature", to=float("inf")), "temperature"),
    "an encoder that is a number": (MODEL, value("attributes", to=1e308), "cannot be read"),
    "thresholds of words": (MODEL, value("folds", 0, "class_thresholds", to="x"), "cannot be read"),
    "no leakage told": (MODEL, without("leakage_allowed"), "KeyError"),
    "no segmenter told": (MODEL, without("segmenter"), "KeyError"),
    "a number for what was not learnt": (MODEL, value("untrained", to=-1), "cannot be read"),
    "segmenters without end": (MODEL, value("segmenter_identities", to=7), "cannot be read"),
    "no scale": (RADIOMICS, value("scale", 0, to=0.0), "unknown value"),
    "a mean of NaN": (ATTRIBUTES, value("mean", 0, to=float("nan")), "unknown value"),
    "fewer columns": (RADIOMICS, value("columns", to=[]), "cannot be read"),
    "an unknown encoder": (ATTRIBUTES, value("name", to="x"), "unknown encoder"),
}


def test_what_no_model_can_hold_is_not_installed(given: tuple[Path, Path], tmp_path: Path) -> None:
    folder, server = given
    with zipfile.ZipFile(folder / "lightgbm.skinkit") as archive:
        contents = {member: archive.read(member) for member, _, _ in CASES.values()}
    packs = []
    for number, (member, change, _) in enumerate(CASES.values()):
        changed = change(contents[member])
        assert changed != contents[member]
        packs.append(resealed(folder / "lightgbm.skinkit", tmp_path / f"{number}.skinkit", {member: changed}))
    packs.append(resealed(folder / "lightgbm.skinkit", tmp_path / "same.skinkit", {TREES: contents[TREES]}))
    *told, same = installed(server, packs, predicts=False)
    assert same == [0, None, True, None]  # or all are refused for another reason
    for (name, (_, _, found)), (code, error, clean, _) in zip(CASES.items(), told, strict=True):
        assert (name, code) == (name, 4), error
        assert set(error) == {"kind", "found", "expected", "fix"}
        assert found in error["found"], (name, error)
        assert "nothing was installed" in error["fix"]
        assert clean, f"{name}: something is left"


def test_what_was_changed_after_installing_is_refused_before_it_is_loaded(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    """Also where every hash was computed anew."""
    work = tmp_path / "w"
    shutil.copytree(given[1], work)
    shutil.rmtree(work / "artifacts" / "walk_in" / "predictions")  # or they are up to date
    path = work / "artifacts" / "models" / "lightgbm"
    trees = path / "fold_0" / "lightgbm.txt"
    trees.write_bytes(line("left_child", "0 {}")(trees.read_bytes()))
    answer = run_here("predict", "-w", work, "-j", "1", "--json")
    assert answer.returncode == 5
    manifest = json.loads((path / "manifest.json").read_text())
    sha256 = hashlib.sha256(trees.read_bytes()).hexdigest()
    manifest["files"]["fold_0/lightgbm.txt"] = manifest["installed"]["files"]["fold_0/lightgbm.txt"] = sha256
    manifest["identity"] = digest([manifest["recipe"], manifest["installed"]["files"]])
    (path / "manifest.json").write_bytes(manifest_bytes(manifest))
    answer = run_here("predict", "-w", work, "-j", "1", "--json")
    assert answer.returncode == 4
    assert "not after it" in json.loads(answer.stdout)["error"]["found"]


NUMBER = re.compile(rb"-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")
LEFT_OUT = object()
ODD: tuple[Any, ...] = (None, -1, 0, 1e308, 1e-320, 2**70, "x", "", [], {}, True, [[]], float("nan"), float("-inf"))


def mutated(content: bytes, suffix: str, chance: random.Random) -> bytes:
    """One bit, one number or one piece of structure changed."""
    data = bytearray(content)
    kind = chance.randrange(4)
    if kind == 0 or not data:
        data[chance.randrange(len(data)) if data else slice(0)] ^= 1 << chance.randrange(8)
    elif kind == 1 and suffix == ".json":
        whole = json.loads(content)
        inner, outer, last = whole, None, None
        while isinstance(inner, (dict, list)) and inner and (outer is None or chance.random() < 0.9):
            outer, last = inner, chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            inner = outer[last]
        if chance.random() < 0.3:
            del outer[last]
        else:
            outer[last] = chance.choice(ODD)
        return json.dumps(whole).encode()
    elif kind == 2 and (numbers := list(NUMBER.finditer(content))):
        one = chance.choice(numbers)
        data[one.start() : one.end()] = chance.choice((b"-1", b"0", b"99999999", b"1e308", b"1e-308", b"0.5", b"7"))
    else:
        at, length = chance.randrange(len(data)), chance.choice((1, 3, 100, 5000))
        data[at : at + length] = b"" if chance.random() < 0.5 else data[at : at + length] * 2
    return bytes(data)


def tried(given: tuple[Path, Path], folder: Path, seeds: Sequence[int]) -> dict[str, int]:
    """Mutants of packs, half of them resealed, each installed and predicted with; what became of them."""
    home, server = given
    packs = []
    for seed in seeds:
        chance = random.Random(seed)
        whole = home / chance.choice(("lightgbm.skinkit", "logistic.skinkit"))
        target = folder / f"{seed}.skinkit"
        if chance.random() < 0.15:  # nothing resealed
            target.write_bytes(mutated(whole.read_bytes(), "", chance))
        else:
            with zipfile.ZipFile(whole) as archive:
                member = chance.choice([name for name in archive.namelist() if name != "pack.json"])
                content = archive.read(member)
            resealed(whole, target, {member: mutated(content, Path(member).suffix, chance)})
        packs.append(target)
    counted = {"refused": 0, "same": 0, "finite": 0}
    expected = open_artifact(server / "artifacts" / "walk_in" / "predictions" / "lightgbm").table()
    for pack, (code, error, clean, then) in zip(packs, installed(server, packs, predicts=True), strict=True):
        assert clean, pack
        ended, why = (code, error) if code else then
        assert ended in (0, 4, 5), (pack, ended, why)
        if ended:
            assert all(why[part] for part in ("found", "expected", "fix")), (pack, why)
            counted["refused"] += 1
            continue
        import pandas as pd

        table = pd.read_parquet(f"{pack}.parquet")
        answers = table.loc[table["status"] == "ok", [name for name in table if name.startswith("p__")]]
        assert len(answers)
        assert np.isfinite(answers.to_numpy(dtype=float)).all(), pack
        assert np.allclose(answers.sum(axis=1), 1, atol=1e-6), pack
        known = [name for name in answers if name in expected]
        same = list(known) == list(answers) and table["malignancy"].equals(expected["malignancy"])
        counted["same" if same else "finite"] += 1
    return counted


def test_mutants_are_refused_or_answer_finite_numbers(given: tuple[Path, Path], tmp_path: Path) -> None:
    counted = tried(given, tmp_path, range(24))
    assert counted["refused"] > 3
    assert counted["same"] + counted["finite"] > 3


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_mutants_are(given: tuple[Path, Path], tmp_path: Path) -> None:
    print(f"\nmutants of packs: {tried(given, tmp_path, range(1000, 1400))}")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_entry_of_model_json_makes_an_internal_error(given: tuple[Path, Path], tmp_path: Path) -> None:
    home, server = given
    whole = home / "lightgbm.skinkit"
    with zipfile.ZipFile(whole) as archive:
        content = archive.read(MODEL)
    about = json.loads(content)
    inner = [(key, name) for key, of in about.items() if isinstance(of, dict) for name in of]
    paths: list[tuple[str | int, ...]] = [*((key,) for key in about), *inner]
    paths += [("folds", 0, name) for name in about["folds"][0]]
    packs, changes = [], []
    for path in paths:
        for odd in (*ODD, LEFT_OUT):
            changed = json.loads(content)
            holder = changed
            for key in path[:-1]:
                holder = holder[key]
            if odd is LEFT_OUT:
                del holder[path[-1]]
            else:
                holder[path[-1]] = odd
            target = tmp_path / f"{len(packs)}.skinkit"
            packs.append(resealed(whole, target, {MODEL: json.dumps(changed).encode()}))
            changes.append((path, odd))
    ends = [
        (change, code or then[0], error or then[1])
        for change, (code, error, _, then) in zip(changes, installed(server, packs, predicts=True), strict=True)
    ]
    assert [end for end in ends if end[1] not in (0, 4, 5)] == []
    assert {code for _, code, _ in ends} >= {0, 4}
