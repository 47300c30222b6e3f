"""Replay features of packed models: whose they are, what they hold and hide, and what a head learns from them."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from conftest import run_here
from test_hostile_packs import resealed

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.errors import InputError
from skinkit.learning import trained
from skinkit.learning.features import head_inputs
from skinkit.learning.replay_features import FILE, ROUNDING, ReplayFeatures, of_artifact, read
from skinkit.learning.trained import Classifier
from skinkit.models.parts.protocol import Labelled
from skinkit.stats.metrics import softmax
from skinkit.workspace import Ref, Workspace, load_workspace

torch = pytest.importorskip("torch")
QUIET = written.Said()
MOST = 6
MEMBER = f"classifier/fold_0/{FILE}"
AGREEMENT = 0.9
"""Share of held-out cases whose most probable class is the shipped head's, of a head learnt from replay features."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of two folds of 60 photos of 30 patients, and their packs beside the workspace ``w``."""
    folder = tmp_path_factory.mktemp("replay")
    made = small_cohort.make(folder / "w", patients=30)
    row = [{"image_id": "one", "status": "ok"}]
    written.write(made, Ref("masks", "clinic", "otsu"), row, config={"model": "otsu"})
    written.write(made, Ref("features", "clinic", "truth"), row, config={**small_cohort.HOW, "masks": "otsu"})
    written.run_stage(made, "train", model="ensemble", settings=("side_px=64",))
    settings = ("backbone=mobilenet_v3_small", "side_px=32", "recipe.epochs=1", "recipe.batch=8", "hidden=7")
    written.run_stage(made, "train", model="concat", settings=settings, weights="none", precision="fp32")
    for name in ("ensemble", "concat"):
        packed(folder, name, f"{name}.skinkit", "--replay-cases", str(MOST))
    packed(folder, "ensemble", "without.skinkit", "--no-replay")
    return folder


def packed(home: Path, name: str, file: str, *more: str, workspace: str = "w") -> dict[str, Any]:
    answer = run_here("models", "pack", name, "--output", home / file, "-w", home / workspace, "--json", *more)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def members(pack: Path) -> dict[str, bytes]:
    """Files of the models in a pack; its index names the tables of the workspace it was packed in."""
    with zipfile.ZipFile(pack) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "pack.json"}


def installed(pack: Path, folder: Path) -> Workspace:
    assert run_here("init", folder).returncode == 0
    answer = run_here("models", "install", pack, "-w", folder)
    assert answer.returncode == 0, answer.stderr
    return load_workspace(folder)


@pytest.fixture(scope="module")
def ward(home: Path) -> Workspace:
    """A workspace that has the pack of the ensemble and nothing else."""
    return installed(home / "ensemble.skinkit", home / "ward")


def opened(workspace: Workspace, name: str) -> Classifier:
    return trained.open_classifier(open_artifact(workspace.path(Ref("models", name=name))), name)


def rows_of(home: Path, name: str, fold: int, part: str) -> tuple[pd.DataFrame, Any]:
    """The fused rows of one part of a fold, and what its head reads of them."""
    workspace = load_workspace(home / "w")
    model = opened(workspace, name)
    frame = open_artifact(workspace.path(Ref("fused", "clinic", "truth"))).table()
    split = read_table(model.path / "trained_on.parquet").query(f"fold == {fold} and part == '{part}'")
    frame = frame[frame["case_id"].isin(split["case_id"])].reset_index(drop=True)
    root = workspace.cohort("clinic").root
    return frame, head_inputs(model, model.folds[fold], frame, root, workspace.root, device="cpu", console=QUIET)


@pytest.mark.parametrize(("name", "read_as"), [("ensemble", "image"), ("concat", "features")])
def test_they_are_of_training_patients_alone_each_once_and_balanced(home: Path, name: str, read_as: str) -> None:
    workspace = installed(home / f"{name}.skinkit", home / f"{name}_of")
    model = opened(workspace, name)
    assert set(of_artifact(open_artifact(model.path))) == {"fold_0", "fold_1"}
    for fold in model.folds:
        replay = read(model.folder(fold))
        assert replay is not None
        parts = {part: rows_of(home, name, fold.number, part) for part in ("train", "validation", "held_out")}
        apart = {
            part: np.abs(replay.inputs[read_as][:, None] - of.inputs[read_as][None].astype(float)).max(2)
            for part, (_, of) in parts.items()
        }
        nearest = apart["train"].argmin(1)
        scale = np.abs(replay.inputs[read_as]).max()
        assert apart["train"].min(1).max() <= 1e-3 * scale
        for part in ("validation", "held_out"):
            assert (apart[part].min(1) >= apart["train"].min(1)).all()  # the small network sees some photos alike
            assert read_as == "features" or (apart[part].min(1) > 2 * apart["train"].min(1)).all()
        frame, of = parts["train"]
        classes = [model.classes.to_class(diagnosis) for diagnosis in frame["diagnosis"].iloc[nearest]]
        assert [model.classes.classes[label] for label in replay.labels] == classes
        assert frame["group_id"].iloc[nearest].is_unique
        patients = frame.drop_duplicates("group_id")["diagnosis"].value_counts()
        assert sorted(replay.rows_by_class(model.classes.classes).values()) == sorted(
            [*(min(MOST, n) for n in patients), *[0] * (len(model.classes.classes) - len(patients))]
        )
        np.testing.assert_allclose(np.exp(replay.answers), softmax(of.scores)[nearest], atol=1e-4)
        assert replay.difference(of.head) <= (ROUNDING if name == "ensemble" else 0.05)


def test_a_head_learnt_from_them_alone_answers_nearly_as_the_shipped_one(home: Path, ward: Workspace) -> None:
    model = opened(ward, "ensemble")
    same, n = 0, 0
    for fold in model.folds:
        replay = read(model.folder(fold))
        assert replay is not None
        assert fold.fitted is not None
        inputs = {**replay.inputs, **fold.encoder.hidden(replay.inputs["attributes"])}
        none = Labelled({name: values[:0] for name, values in replay.inputs.items()}, replay.labels[:0])
        refitted = type(fold.fitted).fit(
            model.config, Labelled(inputs, replay.labels), none, n_classes=len(model.classes.classes), seed=0
        )
        _, held_out = rows_of(home, "ensemble", fold.number, "held_out")
        theirs, own = held_out.scores, refitted.predict(held_out.inputs)
        same += int((theirs.argmax(1) == own.argmax(1)).sum())
        n += len(own)
    print(f"\n{same} of {n} held-out cases are called alike")
    assert same / n >= AGREEMENT


def test_they_name_nobody_and_their_order_says_nothing(home: Path, ward: Workspace) -> None:
    model = opened(ward, "ensemble")
    data = (model.folder(model.folds[0]) / FILE).read_bytes()
    fused = open_artifact(load_workspace(home / "w").path(Ref("fused", "clinic", "truth"))).table()
    ids = {str(v) for name in ("image_id", "patient_id", "lesion_id", "pixel_sha256") for v in fused[name]}
    assert not [one for one in ids if one.encode() in data]
    replay = read(model.folder(model.folds[0]))
    assert replay is not None
    assert model.folds[0].fitted is not None
    mixed = np.random.default_rng(0).permutation(len(replay))
    other = ReplayFeatures(
        {name: values[mixed] for name, values in replay.inputs.items()}, replay.labels[mixed], replay.answers[mixed]
    )
    head = model.folds[0].fitted.predict
    assert other.as_bytes(head) == replay.as_bytes(head) == data


def test_float32_is_kept_where_float16_would_move_an_answer() -> None:
    inputs = {"features": np.array([[4096.0, 4097.0], [4098.0, 4097.0]])}
    answers = np.log(np.full((2, 2), 0.5))
    replay = ReplayFeatures(inputs, np.array([0, 1]), answers)
    rounds = replay.as_bytes(lambda given: given["features"] / 1e6)
    keeps = replay.as_bytes(lambda given: given["features"] * 1.0)
    assert b'"F16"' in rounds
    assert b'"F16"' not in keeps
    assert b'"F16"' not in ReplayFeatures({"features": inputs["features"] * 100}, replay.labels, answers).as_bytes(
        lambda given: given["features"] * 0
    )


def test_a_pack_says_how_many_there_are_and_carries_them_on(home: Path, ward: Workspace, tmp_path: Path) -> None:
    answer = packed(home, "ensemble", "again.skinkit", workspace="ward")
    assert members(home / "again.skinkit") == members(home / "ensemble.skinkit")
    cases = sum(n for of in answer["replay"].values() for n in of.values())
    (row,) = json.loads(run_here("models", "list", "-w", ward.root, "--json").stdout)["models"]
    assert row["replay_cases"] == cases > 2 * MOST
    assert f"features of {cases} training cases" in run_here("show", "models/ensemble", "-w", ward.root).stdout
    card = open_artifact(ward.path(Ref("models", name="ensemble"))).json("model_card.json")
    assert sum(of["cases"] for of in card["replay_features"]["cases"]) == cases
    person = tmp_path / "card.toml"
    person.write_text('[replay_features]\nlicence = "CC0"')
    packed(home, "ensemble", "licensed.skinkit", "--card", str(person), workspace="ward")
    with zipfile.ZipFile(home / "licensed.skinkit") as archive:
        assert json.loads(archive.read("classifier/model_card.json"))["replay_features"]["licence"] == "CC0"
    installed(home / "licensed.skinkit", tmp_path / "licensed")
    packed(tmp_path, "ensemble", "onwards.skinkit", workspace="licensed")
    assert members(tmp_path / "onwards.skinkit") == members(home / "licensed.skinkit")
    left_out = packed(home, "ensemble", "left_out.skinkit", "--no-replay", workspace="ward")
    assert left_out["replay"] is None
    assert members(home / "left_out.skinkit") == members(home / "without.skinkit")


def test_a_pack_without_them_installs_and_says_so_when_it_is_packed_again(home: Path) -> None:
    workspace = installed(home / "without.skinkit", home / "bare")
    assert of_artifact(open_artifact(workspace.path(Ref("models", name="ensemble")))) == {}
    answer = packed(home, "ensemble", "bare.skinkit", workspace="bare")
    assert answer["replay"] is None
    assert "installed from a pack without them" in answer["replay_note"]
    assert members(home / "bare.skinkit") == members(home / "without.skinkit")


def test_what_reads_tables_has_none_and_says_so(home: Path) -> None:
    workspace = load_workspace(home / "w")
    written.run_stage(workspace, "train", model="lightgbm")
    answer = packed(home, "lightgbm", "lightgbm.skinkit")
    assert answer["replay"] is None
    assert "no backbone stands before it" in answer["replay_note"]
    with zipfile.ZipFile(home / "lightgbm.skinkit") as archive:
        assert not [name for name in archive.namelist() if name.endswith(FILE)]


def test_without_the_training_cases_nothing_is_packed(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "w", tmp_path / "w")
    workspace = load_workspace(tmp_path / "w")
    fused = open_artifact(workspace.path(Ref("fused", "clinic", "truth"))).table()
    small_cohort.write_fused(workspace, "clinic", fused.assign(pixel_sha256="another"))
    answer = run_here("models", "pack", "ensemble", "--output", tmp_path / "x", "-w", tmp_path / "w", "--json")
    assert answer.returncode == 4
    error = json.loads(answer.stdout)["error"]
    assert "no training case of fold 0" in error["found"]
    assert "--no-replay" in error["fix"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments",
    [("list", "--no-replay"), ("verify", "--replay-cases", "3"), ("pack", "ensemble", "--replay-cases", "0")],
)
def test_its_options_are_those_of_packing(home: Path, arguments: tuple[str, ...]) -> None:
    assert run_here("models", *arguments, "-w", home / "w").returncode == 2


Tensors = dict[str, Any]
HOSTILE: dict[str, tuple[Callable[[Tensors], Mapping[str, Any]], str]] = {
    "a label of no class": (lambda t: {**t, "labels": t["labels"] + np.uint16(99)}, "the label"),
    "signed labels": (lambda t: {**t, "labels": t["labels"].astype(np.int16)}, "labels of int16"),
    "fewer labels": (lambda t: {**t, "labels": t["labels"][1:]}, "shapes"),
    "no number": (lambda t: {**t, "answers": t["answers"] * np.float32("nan")}, "not finite"),
    "no probabilities": (lambda t: {**t, "answers": t["answers"] * 0}, "no log-probabilities"),
    "other answers": (lambda t: {**t, "answers": np.roll(t["answers"], 1, 1)}, "answers otherwise"),
    "fewer columns": (lambda t: {**t, "inputs.image": t["inputs.image"][:, 1:].copy()}, "cannot be read"),
    "whole numbers": (lambda t: {**t, "inputs.image": t["inputs.image"].astype(np.int32)}, "int32"),
    "no photo": (lambda t: {k: v for k, v in t.items() if k != "inputs.image"}, "cannot be read"),
    "something more": (lambda t: {**t, "patient": t["labels"]}, "patient"),
    "no row": (lambda t: {k: v[:0] for k, v in t.items()}, "shapes"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_ones_are_not_installed(home: Path, ward: Workspace, tmp_path: Path, case: str) -> None:
    from safetensors.numpy import load, save

    change, found = HOSTILE[case]
    with zipfile.ZipFile(home / "ensemble.skinkit") as archive:
        tensors = load(archive.read(MEMBER))
    content = save({name: np.ascontiguousarray(values) for name, values in change(tensors).items()})
    bad = resealed(home / "ensemble.skinkit", tmp_path / "bad.skinkit", {MEMBER: content})
    answer = run_here("models", "install", bad, "--name", "evil", "-w", ward.root, "--json")
    assert answer.returncode == 4
    assert found in json.loads(answer.stdout)["error"]["found"]
    assert not ward.path(Ref("models", name="evil")).exists()


def test_a_file_of_no_fold_is_not_installed(home: Path, ward: Workspace, tmp_path: Path) -> None:
    with zipfile.ZipFile(home / "ensemble.skinkit") as archive:
        content = archive.read(MEMBER)
    for number, place in enumerate((f"classifier/fold_77/{FILE}", f"classifier/{FILE}")):
        bad = resealed(home / "ensemble.skinkit", tmp_path / f"{number}.skinkit", {place: content})
        answer = run_here("models", "install", bad, "--name", "evil", "-w", ward.root, "--json")
        assert answer.returncode == 4
        assert "of no fold" in json.loads(answer.stdout)["error"]["found"]


def test_a_changed_file_is_refused_when_it_is_read(ward: Workspace, tmp_path: Path) -> None:
    shutil.copytree(ward.root, tmp_path / "w")
    path = load_workspace(tmp_path / "w").path(Ref("models", name="ensemble"))
    data = bytearray((path / "fold_0" / FILE).read_bytes())
    data[-1] ^= 1
    (path / "fold_0" / FILE).write_bytes(bytes(data))
    with pytest.raises(InputError, match="not the file"):
        of_artifact(open_artifact(path))
    assert run_here("models", "verify", "ensemble", "-w", tmp_path / "w").returncode == 5
