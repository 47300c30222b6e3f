"""Training on some of the development cohorts, on one split that covers all of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import torch
import toy_network
import written_artifacts as written
from configured import configured
from written_artifacts import make, model

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.data import diagnoses_of
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning.examples import Examples
from skinkit.learning.rows import Replay
from skinkit.learning.schedule import groups_of
from skinkit.models import Phase, concat
from skinkit.models.parts import losses, recipe
from skinkit.pipeline import Pipeline
from skinkit.workspace import Cohort, Ref, Workspace, load_workspace

LEARNT = ("train", "validation")


def trained_on(model: Artifact) -> pd.DataFrame:
    return read_table(model.path / "trained_on.parquet")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two development cohorts on one split of two folds, an external one, and a model of the first alone."""
    cohorts = {"clinic": "development", "phone": "development", "jinan": "external", "ward": "inference"}
    settings = {"segmenter": "truth", "model": "logistic", "classes": "pad6", "allow_untrained": small_cohort.FEW}
    workspace = written.make_workspace(tmp_path_factory.mktemp("cohorts") / "w", cohorts, **settings)
    for seed, (cohort, patients) in enumerate({"clinic": 12, "phone": 9, "jinan": 4}.items()):
        small_cohort.write_cohort(workspace, cohort, patients, seed=seed)
    make(workspace, "split", folds=2, validation=0.34)
    train(workspace, "alone", "clinic")
    return workspace.root


def train(workspace: Workspace, name: str, *cohorts: str, **options: Any) -> Artifact:
    pipeline = Pipeline(workspace, written.Said(), upstream=False)
    (*_, step) = pipeline.make("train", {"model": "logistic", "cohorts": cohorts, **options}, name=name)
    return open_artifact(step.artifact.path)


def split(workspace: Workspace) -> pd.DataFrame:
    return open_artifact(workspace.path(Ref("split", name="grouped"))).table()


# ---------------------------------------------------------------------------------------------------- the record


def test_a_model_says_what_it_learnt_from(workspace: Workspace) -> None:
    alone = model(workspace, "alone")
    about = alone.json("model.json")
    assert (about["cohorts"], about["not_trained_on"]) == (["clinic"], ["phone"])
    assert {"fused/clinic", "split"} <= set(alone.recipe["inputs"])
    assert "fused/phone" not in alone.recipe["inputs"]
    divided, table = split(workspace), trained_on(alone)
    own, other = table[table["cohort"] == "clinic"], table[table["cohort"] == "phone"]
    assert set(own["part"]) == {"train", "validation", "held_out"}
    assert set(other["part"]) == {"held_out", "unused"}
    held = divided[(divided["cohort"] == "phone") & (divided["part"] == "held_out")]
    held_here = other[other["part"] == "held_out"]
    key = ["fold", "case_id"]
    assert held[key].to_numpy().tolist() == held_here.sort_values(key)[key].to_numpy().tolist()
    for fold in about["folds"]:
        mine = divided[(divided["cohort"] == "clinic") & (divided["fold"] == fold["fold"])]
        assert fold["n_train"] == int((mine["part"] == "train").sum())
        assert sum(fold["class_counts"].values()) == int(mine["part"].isin(LEARNT).sum())
    card = alone.json("model_card.json")["training_data"]
    assert [row["cohort"] for row in card["cohorts"]] == ["clinic"]
    assert card["not_trained_on"] == ["phone"]


def test_it_learns_nothing_from_the_other_cohort(workspace: Workspace) -> None:
    """Another truth of every case of the other cohort changes neither weights nor calibration."""
    before = model(workspace, "alone")
    frame = open_artifact(workspace.path(Ref("fused", "phone", "truth"))).table()
    small_cohort.write_fused(workspace, "phone", frame.assign(diagnosis="melanoma", age_years=1.0))
    assert Pipeline(workspace, written.Said()).staleness(Ref("models", name="alone")) is None
    again = train(workspace, "again", "clinic")
    for fold in (0, 1):
        for name in ("fold.json", "attributes.json", "radiomics.json"):
            assert (again.path / f"fold_{fold}" / name).read_bytes() == (
                before.path / f"fold_{fold}" / name
            ).read_bytes()


def test_all_cohorts_by_name_are_the_default(workspace: Workspace) -> None:
    every, named = train(workspace, "every"), train(workspace, "named", "phone", "clinic")
    assert every.recipe == named.recipe
    assert every.json("model.json")["cohorts"] == ["clinic", "phone"]
    assert "not_trained_on" not in every.json("model.json")
    assert "cohorts" not in every.info
    assert set(trained_on(every)["part"]) == {"train", "validation", "held_out"}


def test_training_again_learns_from_the_same_cohorts(workspace: Workspace) -> None:
    before = model(workspace, "alone")
    assert Pipeline(workspace, written.Said()).staleness(Ref("models", name="alone")) is None
    assert train(workspace, "alone").identity == before.identity
    with pytest.raises(RefusedError) as error:
        train(workspace, "alone", "clinic", "phone")
    assert "cohorts clinic instead of clinic,phone" in error.value.found
    both = train(workspace, "alone", "clinic", "phone", replace=True)
    assert both.json("model.json")["cohorts"] == ["clinic", "phone"]


# ---------------------------------------------------------------------------------------------------- what is scored


def test_the_other_cohort_is_scored_on_the_cases_that_each_fold_holds_out(workspace: Workspace) -> None:
    divided = split(workspace)
    for cohort in ("clinic", "phone"):
        predictions = make(workspace, "predict", name="alone", cohorts=[cohort]).table()
        images = predictions[predictions["level"] == "image"].set_index("case_id")
        held = divided[(divided["cohort"] == cohort) & (divided["part"] == "held_out")].set_index("case_id")
        assert images["fold"].astype(int).to_dict() == held["fold"].to_dict()
        scores = make(workspace, "evaluate", name="alone", cohorts=[cohort], bootstrap=0, shortcuts=False)
        assert scores.info.get("not_trained_on", False) == (cohort == "phone")
        assert ("not trained on" in scores.info["text"]) == (cohort == "phone")


def test_a_case_that_both_cohorts_have_is_refused(workspace: Workspace) -> None:
    """A copy of a training photo among the held-out cases of the cohort that was not trained on."""
    table = trained_on(model(workspace, "alone"))
    fold = 0
    learnt = table[(table["fold"] == fold) & (table["part"] == "train")].iloc[0]
    held = table[(table["fold"] == fold) & (table["cohort"] == "phone") & (table["part"] == "held_out")].iloc[0]
    cases = open_artifact(workspace.path(Ref("cases", "phone"))).table()
    leaky = cases["case_id"] == held["case_id"]
    cases = cases.assign(pixel_sha256=cases["pixel_sha256"].mask(leaky, learnt["pixel_sha256"])).astype(object)
    written.write_cases(workspace, "phone", cases.where(cases.notna(), None).to_dict("records"))
    make(workspace, "predict", name="alone", cohorts=["phone"])
    with pytest.raises(RefusedError) as error:
        make(workspace, "evaluate", name="alone", cohorts=["phone"], bootstrap=0, shortcuts=False)
    assert held["case_id"] in error.value.found


# ---------------------------------------------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("named", "error", "code", "found"),
    [
        ("clinik", ConfigError, 2, "clinik"),
        ("jinan", RefusedError, 5, "external"),
        ("ward", ConfigError, 2, "inference"),
    ],
)
def test_other_cohorts_are_refused(
    workspace: Workspace, named: str, error: type[ConfigError | RefusedError], code: int, found: str
) -> None:
    with pytest.raises(error) as raised:
        train(workspace, "other", "clinic", named)
    assert found in raised.value.found
    assert raised.value.exit_code == code
    if named == "clinik":
        assert "clinic" in raised.value.expected


def test_a_split_without_the_cohort_is_refused(workspace: Workspace) -> None:
    old = open_artifact(workspace.path(Ref("split", name="grouped")))
    table = old.table()
    written.write(workspace, Ref("split", name="narrow"), table[table["cohort"] == "clinic"], old.info)
    with pytest.raises(InputError) as error:
        train(workspace, "other", "clinic", "phone", split="narrow")
    assert "phone" in error.value.found


def test_a_signature_is_chosen_by_the_cohorts_that_are_trained_on(workspace: Workspace) -> None:
    own = make(workspace, "select")
    with pytest.raises(InputError) as error:
        train(workspace, "measured", "clinic", radiomics="signature")
    assert "grouped/truth+clinic" in error.value.found
    signature = Pipeline(workspace, written.Said(), upstream=False).bring(Ref("signature", name="grouped/truth+clinic"))
    train(workspace, "measured", "clinic", radiomics="signature")
    assert set(signature.recipe["inputs"]) == {"split", "fused/clinic"}
    assert set(own.recipe["inputs"]) == {"split", "fused/clinic", "fused/phone"}
    about = model(workspace, "measured").json("model.json")
    chosen = signature.table()
    for fold in about["folds"]:
        mine = chosen[(chosen["fold"] == fold["fold"]) & chosen["selected"].astype(bool)].sort_values("rank")
        assert fold["signature"] == mine["feature"].tolist()


# ---------------------------------------------------------------------------------------------------- classes


def test_an_impossible_class_is_left_out_of_the_loss_worked_by_hand() -> None:
    """Three classes with odds 1 : 2 : 4 before masking; the first row cannot be of the third class."""
    logits = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]).log().requires_grad_()
    truth, possible = torch.tensor([0, 2]), torch.tensor([[True, True, False], [True, True, True]])
    plain = losses.cross_entropies(logits, truth, possible=possible)
    np.testing.assert_allclose(plain.tolist(), [np.log(3 / 1), np.log(7 / 4)], rtol=1e-6)
    plain[0].backward()
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad[0].tolist(), [1 / 3 - 1, 2 / 3, 0.0], atol=1e-6)
    # Smoothed by 0.3: over two classes in the first row, over three in the second; weights 1, 2, 3.
    weights = torch.tensor([1.0, 2.0, 3.0])
    found = losses.cross_entropies(logits, truth, weights, 0.3, possible).tolist()
    first = 0.7 * np.log(3) + 0.3 / 2 * (np.log(3) + 2 * np.log(3 / 2))
    second = 0.7 * 3 * np.log(7 / 4) + 0.3 / 3 * (np.log(7) + 2 * np.log(7 / 2) + 3 * np.log(7 / 4))
    np.testing.assert_allclose(found, [first, second], rtol=1e-6)
    config = configured(concat.Concat, label_smoothing=0.3)
    mean = recipe.cross_entropy(config, logits, truth, weights, possible)
    assert float(mean.detach()) == pytest.approx((first + second) / (1 + 3))
    focal = losses.focal(logits, truth, weights, 2.0, 0.0, possible)
    np.testing.assert_allclose(focal.tolist(), [(2 / 3) ** 2 * np.log(3), 3 * (3 / 7) ** 2 * np.log(7 / 4)], rtol=1e-6)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0])])
def test_with_every_class_possible_the_loss_is_that_of_torch(weights: torch.Tensor | None) -> None:
    logits, truth = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0, 0])
    config, every = configured(concat.Concat, label_smoothing=0.1), torch.ones(7, 3, dtype=torch.bool)
    masked, plain = (recipe.cross_entropy(config, logits, truth, weights, possible) for possible in (every, None))
    torch.testing.assert_close(masked, plain)


def cohort_of(source: str, **of: Any) -> Cohort:
    return Cohort("one", "development", source, Path("nowhere"), **of)


def test_what_a_cohort_can_have_is_declared() -> None:
    pad = diagnoses_of(cohort_of("pad-ufes-20"))
    assert pad is not None
    assert "vascular_lesion" not in pad
    assert len(pad) == 6
    ham = diagnoses_of(cohort_of("ham10000"))
    assert ham is not None
    assert "squamous_cell_carcinoma" not in ham
    assert diagnoses_of(cohort_of("isic-2019-pad")) is None, "drawn by an option"
    assert diagnoses_of(cohort_of("folder")) is None, "nothing describes it"
    assert diagnoses_of(cohort_of("ham10000", diagnoses=("nevus",))) == {"nevus"}


NETWORK = {
    "model": "concat",
    "weights": "none",
    "settings": (
        "backbone=shufflenet_v2_x0_5",
        "side_px=32",
        "recipe.epochs=1",
        "recipe.batch=8",
        "recipe.optimiser=adamw",
    ),
}


def declare(workspace: Workspace, cohort: str, *diagnoses: str) -> Workspace:
    """The workspace whose ``skinkit.toml`` says what a cohort can have."""
    file = workspace.root / "skinkit.toml"
    listing = ", ".join(f'"{name}"' for name in diagnoses)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(f"[cohorts.{cohort}]", f"[cohorts.{cohort}]\ndiagnoses = [{listing}]"))
    return load_workspace(workspace.root)


def without_carcinomas(workspace: Workspace, cohort: str) -> None:
    """The cohort with a melanoma for every basal cell carcinoma."""
    frame = open_artifact(workspace.path(Ref("fused", cohort, "truth"))).table()
    small_cohort.write_fused(workspace, cohort, frame.replace({"diagnosis": {"basal_cell_carcinoma": "melanoma"}}))


def test_a_class_that_a_cohort_cannot_have_is_masked(workspace: Workspace) -> None:
    without_carcinomas(workspace, "phone")
    plain = train(workspace, "plain", **NETWORK)
    assert "absent_classes" not in {**plain.json("model.json"), **plain.recipe["inputs"]}
    workspace = declare(workspace, "phone", "nevus", "melanoma")
    assert "absent_classes" in (Pipeline(workspace, written.Said()).staleness(Ref("models", name="plain")) or "")
    masked = train(workspace, "masked", **NETWORK)
    about = masked.json("model.json")
    # Of the other four classes clinic has all, because nothing says otherwise of it.
    assert about["absent_classes"] == {"phone": ["ACK", "BCC", "SCC", "SEK"]}
    assert masked.json("model_card.json")["training_data"]["absent_classes"] == {"phone": "ACK, BCC, SCC, SEK"}
    losses_of = [pd.read_parquet(m.path / "fold_0" / "history.parquet")["train_loss"][0] for m in (plain, masked)]
    assert losses_of[1] < losses_of[0]
    alone = train(workspace, "other", "phone", **NETWORK)
    assert "absent_classes" not in alone.json("model.json"), "no cohort of the model can have them"


def test_a_model_that_cannot_mask_says_so_and_stays_as_it_is(workspace: Workspace) -> None:
    without_carcinomas(workspace, "phone")
    before = train(workspace, "trees")
    workspace = declare(workspace, "phone", "nevus", "melanoma")
    assert Pipeline(workspace, written.Said()).staleness(Ref("models", name="trees")) is None
    _, said = written.run_stage(workspace, "train", model="logistic", name="again")
    assert "phone cannot have ACK, BCC, SCC, SEK" in said
    assert open_artifact(workspace.path(Ref("models", name="again"))).recipe == before.recipe


def test_cases_of_an_impossible_class_are_refused(workspace: Workspace) -> None:
    workspace = declare(workspace, "phone", "nevus", "melanoma")
    with pytest.raises(ConfigError) as error:
        train(workspace, "masked", **NETWORK)
    assert "phone are BCC" in error.value.found


@pytest.mark.parametrize("wrong", ['"nevus"', '["naevus"]'])
def test_a_wrong_declaration_is_refused(workspace: Workspace, wrong: str) -> None:
    file = workspace.root / "skinkit.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[cohorts.phone]", f"[cohorts.phone]\ndiagnoses = {wrong}"), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_workspace(workspace.root)
    assert "[cohorts.phone]" in error.value.found


def test_a_hospital_declares_its_diagnoses_in_its_own_file(tmp_path: Path) -> None:
    text = 'diagnoses = ["nevus", "melanoma"]\n[columns]\nimage = "file"\ndiagnosis = "label"\n'
    (tmp_path / "cohort.toml").write_text(text, encoding="utf-8")
    assert diagnoses_of(Cohort("one", "development", "folder", tmp_path)) == {"nevus", "melanoma"}
    (tmp_path / "cohort.toml").write_text(text.replace("nevus", "naevus"), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        diagnoses_of(Cohort("one", "development", "folder", tmp_path))
    assert "naevus" in error.value.found


def test_batches_hold_cohort_and_possible_classes() -> None:
    class Grey:
        pixel_sha256 = "grey"

        def read(self) -> np.ndarray:
            return np.full((8, 8, 3), 90, np.uint8)

    plain = Examples(("image",), 8, [Grey()] * 3).with_arrays({}, classes=np.array([0, 1, 0]))
    possible = np.array([[True, True], [True, True], [True, False]])
    examples = plain.with_arrays({}, classes=np.array([0, 1, 0]), cohorts=np.array([0, 0, 1]), possible=possible)
    batch = examples.batch([1, 2])
    assert batch["cohort"].tolist() == [0, 1]
    assert batch["possible"].tolist() == [[True, True], [True, False]]
    assert examples.fingerprint([0, 2]) != plain.fingerprint([0, 2])


# ---------------------------------------------------------------------------------------------------- replay


def test_an_epoch_sees_every_own_row_once_and_the_share_of_replayed_ones() -> None:
    replay, phase, place = Replay((100, 101, 102), 0.25), Phase("all", 1, batch=4), (0, 0, 1)
    groups = groups_of(range(9), phase, place, 1, (), replay)
    drawn = [row for group in groups for row in group]
    own = [row for row in drawn if row < 100]
    assert sorted(own) == list(range(9))
    assert len(drawn) - len(own) == 3 == replay.beside(9)
    assert drawn != sorted(drawn)
    assert groups == groups_of(range(9), phase, place, 1, (), replay)
    assert groups != groups_of(range(9), phase, (0, 0, 2), 1, (), replay)
    stepped = groups_of(range(9), Phase("all", 1, batch=4, steps=10), place, 1, (), replay)
    assert sum(row >= 100 for group in stepped for row in group) == 10
    balanced = groups_of(
        range(9), Phase("all", 1, batch=4, steps=10, balanced=1.0), place, 1, (0,) * 8 + (1,),
        Replay((100, 101, 102), 0.5, (0, 0, 1)),
    )  # fmt: skip
    flat = [row for group in balanced for row in group]
    assert (flat.count(8), flat.count(102)) == (10, 10)


class KilledError(Exception):
    """A kill."""


def test_a_stopped_training_with_replay_ends_with_the_same_bytes(tmp_path: Path) -> None:
    examples = toy_network.dark_squares(tmp_path / "photos")
    score, options = toy_network.IoU(examples), {"train_rows": range(8), "replay": Replay(tuple(range(8, 16)), 0.5)}
    calls = iter(range(100))

    def until_killed(answers: Any, rows: Any) -> dict[str, float]:
        if next(calls) == 3:
            raise KilledError
        return score(answers, rows)

    whole, resumed, other = toy_network.toy(), toy_network.toy(), toy_network.toy()
    toy_network.train(whole, examples, tmp_path / "whole", **options)
    with pytest.raises(KilledError):
        toy_network.train(toy_network.toy(), examples, tmp_path / "killed", **options, score=until_killed)
    toy_network.train(resumed, examples, tmp_path / "killed", **options)
    toy_network.train(other, examples, tmp_path / "other", train_rows=range(8))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(whole.output.weight, other.output.weight)


@pytest.fixture(scope="module")
def twice(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of clinic, and one that goes on from it with phone and replays clinic."""
    root = tmp_path_factory.mktemp("twice") / "w"
    shutil.copytree(chain, root)
    workspace = load_workspace(root)
    train(workspace, "first", "clinic", **NETWORK)
    train(workspace, "second", "phone", **{**NETWORK, "weights": "model:first"}, replay=0.4)
    return root


@pytest.fixture
def second(twice: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(twice, tmp_path / "twice")
    return load_workspace(tmp_path / "twice")


def test_a_second_training_goes_on_from_the_first(second: Workspace) -> None:
    first, again = model(second, "first"), model(second, "second")
    about = again.json("model.json")
    assert about["weights"] == {
        "name": "model:first", "sha256": None, "identity": first.identity, "cohorts": ["clinic"],
    }  # fmt: skip
    assert about["cohorts"] == ["phone"]
    assert about["replay"] == {"share": 0.4, "cohorts": ["clinic"]}
    assert "not_trained_on" not in about
    for fold in about["folds"]:
        folder = f"fold_{fold['fold']}"
        assert fold["starts_from"] == f"all weights of model:first, {folder}"
        for name in ("attributes.json", "radiomics.json"):
            assert (again.path / folder / name).read_bytes() == (first.path / folder / name).read_bytes()
    assert Pipeline(second, written.Said()).staleness(Ref("models", name="second")) is None
    assert train(second, "second", **{**NETWORK, "weights": ""}).identity == again.identity


def test_the_classes_behind_its_probabilities_are_those_of_the_rows_it_saw(second: Workspace) -> None:
    divided = split(second)
    diagnoses = {
        cohort: open_artifact(second.path(Ref("fused", cohort, "truth"))).table().set_index("case_id")["diagnosis"]
        for cohort in ("clinic", "phone")
    }
    names = {"MEL": "melanoma", "NEV": "nevus", "BCC": "basal_cell_carcinoma"}
    for fold in model(second, "second").json("model.json")["folds"]:
        part = divided[(divided["fold"] == fold["fold"]) & (divided["part"] == "train")]
        own, before = (
            diagnoses[cohort][part.loc[part["cohort"] == cohort, "case_id"]].value_counts()
            for cohort in ("phone", "clinic")
        )
        assert fold["n_replayed"] == before.sum()
        again = round(own.sum() * 0.4 / 0.6)
        shares = own.add(again * before / before.sum(), fill_value=0.0) / (own.sum() + again)
        for code, diagnosis in names.items():
            assert fold["effective_class_prior"][code] == pytest.approx(shares[diagnosis], rel=1e-5)


def test_the_model_knows_what_both_trainings_learnt_from(second: Workspace) -> None:
    divided, table = split(second), trained_on(model(second, "second"))
    key = ["fold", "cohort", "case_id"]
    both = divided.merge(table, on=key, suffixes=("", "_known"))
    assert len(both) == len(table) == len(divided)
    clinic, phone = (both[both["cohort"] == cohort] for cohort in ("clinic", "phone"))
    assert (phone["part"] == phone["part_known"]).all()
    now = {"train": "replay", "validation": "pretrain", "held_out": "held_out"}
    assert (clinic["part"].map(now) == clinic["part_known"]).all()
    for cohort in ("clinic", "phone"):
        predictions = make(second, "predict", name="second", cohorts=[cohort]).table()
        images = predictions[predictions["level"] == "image"].set_index("case_id")
        held = divided[(divided["cohort"] == cohort) & (divided["part"] == "held_out")].set_index("case_id")
        assert images["fold"].astype(int).to_dict() == held["fold"].to_dict()
        scores = make(second, "evaluate", name="second", cohorts=[cohort], bootstrap=0, shortcuts=False)
        assert scores.info["leakage"]["cases"] == 0


def test_without_replay_the_first_cohort_is_known_through_the_weights_alone(second: Workspace) -> None:
    alone = train(second, "tuned", "phone", **{**NETWORK, "weights": "model:first"})
    assert alone.json("model.json")["not_trained_on"] == ["clinic"]
    clinic = trained_on(alone).query("cohort == 'clinic'")
    assert set(clinic["part"]) == {"pretrain", "held_out"}
    make(second, "predict", name="tuned", cohorts=["clinic"])
    scores = make(second, "evaluate", name="tuned", cohorts=["clinic"], bootstrap=0, shortcuts=False)
    assert "only in model:first" in scores.info["text"]


def test_a_class_of_the_first_cohort_is_masked_in_the_second(second: Workspace) -> None:
    without_carcinomas(second, "phone")
    workspace = declare(second, "phone", "nevus", "melanoma")
    tuned = train(workspace, "tuned", "phone", **{**NETWORK, "weights": "model:first"})
    assert tuned.json("model.json")["absent_classes"] == {"phone": ["ACK", "BCC", "SCC", "SEK"]}


def test_a_first_training_that_learnt_from_held_out_cases_is_refused(second: Workspace) -> None:
    """On a split with other folds, and by a copy of a training photo among what is held out."""
    old = open_artifact(second.path(Ref("split", name="grouped")))
    written.write(second, Ref("split", name="swapped"), old.table().assign(fold=1 - old.table()["fold"]), old.info)
    options = {**NETWORK, "weights": "model:first", "replay": 0.4}
    with pytest.raises(RefusedError) as error:
        train(second, "tuned", "phone", **options, split="swapped")
    assert "clinic-" in error.value.found
    learnt = trained_on(model(second, "first")).query("fold == 0 and part == 'train'").iloc[0]
    held = old.table().query("fold == 0 and cohort == 'phone' and part == 'held_out'").iloc[0]
    frame = open_artifact(second.path(Ref("fused", "phone", "truth"))).table()
    copied = frame["case_id"] == held["case_id"]
    for name in ("pixel_sha256", "image_sha256"):
        frame[name] = frame[name].mask(copied, learnt[name])
    shutil.copy(second.root / "clinic" / f"{learnt['case_id']}.png", second.root / "phone" / f"{held['case_id']}.png")
    small_cohort.write_fused(second, "phone", frame)
    with pytest.raises(RefusedError) as leak:
        train(second, "tuned", "phone", **options)
    assert held["case_id"] in leak.value.found


def test_another_first_training_makes_the_second_stale(second: Workspace) -> None:
    train(second, "first", "clinic", **NETWORK, seed=1, replace=True)
    assert "weights" in (Pipeline(second, written.Said()).staleness(Ref("models", name="second")) or "")
    with pytest.raises(RefusedError) as error:
        train(second, "second", "phone", **{**NETWORK, "weights": "model:first"}, replay=0.4)
    assert "other weights" in error.value.found


FROM_FIRST = {**NETWORK, "weights": "model:first"}


@pytest.mark.parametrize(
    ("cohorts", "options", "error", "found"),
    [
        (("phone",), {**NETWORK, "replay": 0.4}, ConfigError, "--replay 0.4 with --weights none"),
        (("phone",), {**FROM_FIRST, "replay": 1.0}, ConfigError, "--replay 1"),
        (("clinic", "phone"), {**FROM_FIRST, "replay": 0.4}, ConfigError, "whose cohorts are clinic"),
        (("phone",), {**FROM_FIRST, "model": "metablock"}, InputError, "first is a concat"),
        (("phone",), {**FROM_FIRST, "missing": "indicator"}, ConfigError, "--missing indicator instead of zeros"),
        (("phone",), {**FROM_FIRST, "classes": "malignancy"}, ConfigError, "--classes"),
        (("phone",), {**FROM_FIRST, "replay": 0.4, "split": "narrow"}, InputError, "clinic"),
    ],
)
def test_wrong_second_trainings_are_refused(
    second: Workspace, cohorts: tuple[str, ...], options: dict[str, Any], error: type[InputError], found: str
) -> None:
    old = open_artifact(second.path(Ref("split", name="grouped")))
    table = old.table()
    written.write(second, Ref("split", name="narrow"), table[table["cohort"] == "phone"], old.info)
    with pytest.raises(error) as raised:
        train(second, "wrong", *cohorts, **options)
    assert found in raised.value.found
