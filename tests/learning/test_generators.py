"""Generators: the contract, training per fold, synthetic images, and that these are training rows of their fold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import class_colours
import class_decoder
import numpy as np
import pandas as pd
import pytest
import small_cohort
import third_party
import torch
import written_artifacts as written
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from written_artifacts import make, model

from skinkit import contract
from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.audit import test_access_log
from skinkit.commands import Context, models, show, status
from skinkit.commands import list as list_command
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.images.decode import read_rgb
from skinkit.images.identity import pixel_sha256
from skinkit.learning import rows, trained
from skinkit.learning.examples import resized
from skinkit.learning.fold_classifier import SPREAD
from skinkit.learning.schedule import groups_of
from skinkit.learning.trained import NETWORK as NETWORK_FILE
from skinkit.models import Generator, LabelledPhotos
from skinkit.models.parts.protocol import Phase
from skinkit.pipeline import Pipeline
from skinkit.stats import metrics
from skinkit.workspace import Ref, Workspace, load_workspace

# ---------------------------------------------------------------------------------------------------- the contract


def test_the_toys_keep_the_contract() -> None:
    contract.check_model(class_colours.ClassColours)
    contract.check_model(class_decoder.ClassDecoder)


ONE, NETWORK = class_colours.ClassColours, class_decoder.ClassDecoder


def changed(model: type[Any], **names: Any) -> type[Any]:
    return type("Broken", (model,), {"__module__": model.__module__, **names})


def _images(change: Any, model: type[Any] = ONE) -> Any:
    return lambda self, labels, seeds: change(model.synthesise(self, labels, seeds))


def _by_luck(self: Any, labels: Sequence[int], seeds: Sequence[int]) -> Any:
    return ONE.synthesise(self, labels, np.random.default_rng().integers(1 << 30, size=len(seeds)).tolist())


def _one_stream(self: Any, labels: Sequence[int], seeds: Sequence[int]) -> Any:
    return ONE.synthesise(self, labels, [seed + place for place, seed in enumerate(seeds)])


def _of_the_first_class(self: Any, labels: Sequence[int], seeds: Sequence[int]) -> Any:
    return ONE.synthesise(self, [0] * len(labels), seeds)


def _of_one_seed(self: Any, labels: Sequence[int], seeds: Sequence[int]) -> Any:
    return ONE.synthesise(self, labels, [0] * len(seeds))


def _fit_at_random(cls: Any, config: Any, train: LabelledPhotos, **of: Any) -> Any:
    fitted = ONE.fit.__func__(cls, config, train, **of)  # type: ignore[attr-defined]
    fitted.mean = fitted.mean + np.random.default_rng().normal(0, 20, fitted.mean.shape)
    return fitted


def _fit_writing(cls: Any, config: Any, train: LabelledPhotos, **of: Any) -> Any:
    train.photos[0][:] = 0
    return ONE.fit.__func__(cls, config, train, **of)  # type: ignore[attr-defined]


def _save_pickled(self: Any, folder: Path) -> None:
    ONE.save(self, folder)
    (folder / "model.pkl").write_bytes(b"")


def _load_shifted(cls: Any, folder: Path) -> Any:
    read = ONE.load(folder)
    return cls(read.side_px, 255 - read.mean, read.spread)


def _network_by_luck(self: Any, labels: Sequence[int], seeds: Sequence[int]) -> Any:
    noise = torch.randn(len(seeds), class_decoder.NOISE)
    return (self.draw(torch.tensor(list(labels)), noise).permute(0, 2, 3, 1) * 255).byte().numpy()


def _loss_without_a_class(self: Any, batch: Any) -> Any:
    return NETWORK.loss(self, {"image": batch["image"], "class": torch.arange(3)})


def _loss_of_a_mask(self: Any, batch: Any) -> Any:
    return NETWORK.loss(self, batch) + batch["mask"].mean()


@dataclass(frozen=True)
class Sideless:
    """Settings without a size."""

    pixels: Annotated[int, "side"] = 32


BROKEN: dict[str, tuple[type[Any], str]] = {
    "not deterministic": (changed(ONE, synthesise=_by_luck), "differently twice"),
    "one stream of noise": (changed(ONE, synthesise=_one_stream), "when others are made beside it"),
    "wrong size": (changed(ONE, synthesise=_images(lambda images: images[:, 1:])), "answers shape"),
    "one image for all": (changed(ONE, synthesise=_images(lambda images: images[0])), "answers shape"),
    "nan": (changed(ONE, synthesise=_images(lambda images: images * np.nan)), "not finite"),
    "floats": (changed(ONE, synthesise=_images(lambda images: images / 255)), "answers float64, not uint8"),
    "ignores the class": (changed(ONE, synthesise=_of_the_first_class), "ignores the class"),
    "ignores the seed": (changed(ONE, synthesise=_of_one_seed), "ignores the seed"),
    "fitted at random": (changed(ONE, fit=classmethod(_fit_at_random)), "fitted twice with one seed"),
    "writes into photos": (changed(ONE, fit=classmethod(_fit_writing)), "writes into the photos"),
    "pickled": (changed(ONE, save=_save_pickled), "saved as model.pkl"),
    "read back otherwise": (changed(ONE, load=classmethod(_load_shifted)), "read back it writes other images"),
    "never written": (changed(ONE, synthesise=Generator.synthesise), "does not write synthesise"),
    "no size": (changed(ONE, CONFIG=Sideless), "CONFIG has no side_px"),
    "reads more": (changed(ONE, READS=("image", "attributes")), "all that a generator reads"),
    "classifies": (changed(ONE, TASK="classify"), "TASK is generate for what derives from Generator"),
    "a network that does not derive": (changed(NETWORK, TASK="pretrain"), "TASK is generate for what derives"),
    "network by luck": (changed(NETWORK, synthesise=_network_by_luck), "differently twice"),
    "network of one seed": (
        changed(NETWORK, synthesise=lambda self, labels, seeds: NETWORK.synthesise(self, labels, [0] * len(seeds))),
        "ignores the seed",
    ),
    "network without synthesise": (changed(NETWORK, synthesise=Generator.synthesise), "does not write synthesise"),
    "unread class": (changed(NETWORK, loss=_loss_without_a_class), "its loss never reads class"),
    "another input": (changed(NETWORK, loss=_loss_of_a_mask), "loss reads mask, which READS does not name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_generator_is_refused_for_its_reason(name: str) -> None:
    model, sentence = BROKEN[name]
    with pytest.raises(AssertionError, match=sentence):
        contract.check_model(model)


# ---------------------------------------------------------------------------------------------------- training


TOYS = ("class_colours", "class_decoder", "masked_pixels", "pooled_pixels")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 labelled photos of 18 patients in two folds, and a generator that has learnt from each fold's."""
    workspace = small_cohort.make(tmp_path_factory.mktemp("chain") / "w")
    make(workspace, "train", model="class_colours", name="colours")
    return workspace.root


def test_each_fold_of_a_generator_learns_from_its_training_photos_alone(workspace: Workspace) -> None:
    trained = model(workspace, "colours")
    about = trained.json("model.json")
    assert (about["task"], about["classes"]["name"], about["split"]["name"]) == ("generate", "pad6", "grouped")
    learnt = read_table(trained.path / "trained_on.parquet").query("part == 'train'")
    for fold in about["folds"]:
        own = learnt[learnt["fold"] == fold["fold"]]
        assert sum(fold["class_counts"].values()) == fold["n_train"] == len(own)
        photos = [read_rgb(workspace.root / "clinic" / f"{image}.png") for image in own["image_id"]]
        small = np.stack([np.asarray(Image.fromarray(photo).resize((32, 32))) for photo in photos])
        means = load_file(trained.path / f"fold_{fold['fold']}" / "colours.safetensors")["mean"]
        counts = np.array(list(fold["class_counts"].values()))
        assert np.average(means, axis=0, weights=counts) == pytest.approx(small.mean((0, 1, 2)), abs=8)
        assert np.allclose(means[counts == 0], 128)


def test_a_network_that_generates_keeps_its_last_epoch(workspace: Workspace) -> None:
    trained = make(workspace, "train", model="class_decoder", name="decoder")
    history = pd.read_parquet(trained.path / "fold_0" / "history.parquet")
    assert history["kept"].tolist() == [False, True]
    assert "validation_loss" not in history
    assert trained.json("model.json")["weights"]["name"] == "none"


def test_a_generator_is_no_classifier(workspace: Workspace, tmp_path: Path) -> None:
    third_party.assert_no_classifier(workspace, "colours", "generate", "only writes synthetic images", tmp_path)


# ---------------------------------------------------------------------------------------------------- images


IMAGES = Ref("synthetic", name="colours")


def images(workspace: Workspace, **options: Any) -> Artifact:
    return make(workspace, "synthesise", model="colours", **options)


def test_each_image_says_its_class_fold_seed_and_parent(workspace: Workspace) -> None:
    made = images(workspace, per_class=3)
    table = made.table()
    about = model(workspace, "colours").json("model.json")
    learnt = {(fold["fold"], code) for fold in about["folds"] for code, n in fold["class_counts"].items() if n}
    assert set(zip(table["fold"], table["class"], strict=True)) == learnt
    assert len(table) == 3 * len(learnt)
    assert table["seed"].is_unique
    assert table["image_id"].str.startswith("synthetic-").all()
    assert set(table["parent"]) == {"colours"}
    assert set(table["parent_identity"]) == {model(workspace, "colours").identity}
    for row in table.to_dict("records"):
        with Image.open(made.path / row["image_file"]) as image:
            assert image.size == (32, 32)
            assert image.text["synthetic"].startswith("yes")  # type: ignore[attr-defined]
            for name in ("class", "fold", "seed", "parent", "parent_identity", "licence"):
                assert image.text[name] == str(row[name])  # type: ignore[attr-defined]
        assert pixel_sha256(read_rgb(made.path / row["image_file"])) == row["pixel_sha256"]
    assert made.info["sheets"]
    assert all((made.path / sheet).is_file() for sheet in made.info["sheets"])


def test_the_images_are_those_of_their_fold_class_and_seed(workspace: Workspace) -> None:
    made = images(workspace, per_class=2)
    codes = model(workspace, "colours").json("model.json")["classes"]["classes"]
    for row in made.table().to_dict("records"):
        fold = class_colours.ClassColours.load(model(workspace, "colours").path / f"fold_{row['fold']}")
        expected = fold.synthesise([codes.index(row["class"])], [row["seed"]])[0]
        assert np.array_equal(read_rgb(made.path / row["image_file"]), expected)


def test_a_network_writes_images_too(workspace: Workspace) -> None:
    make(workspace, "train", model="class_decoder", name="decoder")
    made = make(workspace, "synthesise", model="decoder", per_class=2, name="drawn")
    assert made.path.name == "drawn"
    assert set(made.table()["side_px"]) == {16}
    again = make(workspace, "synthesise", model="decoder", per_class=2, name="again", batch=1)
    apart = [
        np.abs(read_rgb(made.path / file).astype(int) - read_rgb(again.path / file)).max()
        for file in made.table()["image_file"]
    ]
    assert max(apart) <= 1


def test_more_images_keep_those_that_are_there_and_another_seed_none(workspace: Workspace) -> None:
    few = images(workspace, per_class=2).table()
    more = images(workspace, per_class=4)
    assert more.manifest["counts"]["kept"] == len(few)
    seeds = set(more.table()["seed"])
    both = few.merge(more.table(), on="image_id", suffixes=("", "_later"))
    assert (both["pixel_sha256"] == both["pixel_sha256_later"]).all()
    assert len(both) == len(few)
    other = images(workspace, per_class=4, seed=1)
    assert other.manifest["counts"]["kept"] == 0
    assert seeds.isdisjoint(other.table()["seed"])


def test_an_interrupted_run_goes_on(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = class_colours.ClassColours.synthesise
    calls = []

    def killed(self: Any, labels: Any, seeds: Any) -> Any:
        calls.append(len(seeds))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, labels, seeds)

    monkeypatch.setattr(class_colours.ClassColours, "synthesise", killed)
    with pytest.raises(KeyboardInterrupt):
        images(workspace, per_class=3, batch=4)
    monkeypatch.undo()
    again = images(workspace, per_class=3, batch=4)
    assert again.manifest["counts"]["kept"] == 8
    assert again.identity == images(workspace, per_class=3).identity


def test_by_default_each_class_becomes_as_frequent_as_the_largest(workspace: Workspace) -> None:
    cases = open_artifact(workspace.path(Ref("cases", "clinic"))).table()
    rare = cases[(cases["diagnosis"] != "melanoma") | (cases["patient_id"].isin(["P01", "P04", "P07"]))]
    small_cohort.written_artifacts.write_cases(workspace, "clinic", rare.to_dict("records"))
    make(workspace, "split", folds=2, validation=0.34)
    make(workspace, "train", model="class_colours", name="colours", replace=True)
    counts = {of["fold"]: of["class_counts"] for of in model(workspace, "colours").json("model.json")["folds"]}
    for cap in (10, 1):
        made = images(workspace, cap=cap)
        for fold, of in counts.items():
            lacks = {code: max(of.values()) - n for code, n in of.items()}
            expected = {code: min(lacks[code], cap * n) if n else 0 for code, n in of.items()}
            assert made.info["images"][str(fold)] == expected


def test_a_budget_names_single_classes(workspace: Workspace) -> None:
    made = images(workspace, per_class=1, budget=("MEL=5,NEV=0",))
    assert made.table().groupby(["fold", "class"]).size().to_dict() == {
        (fold, code): n for fold in (0, 1) for code, n in (("BCC", 1), ("MEL", 5))
    }


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"per_class": "many"}, ConfigError),
        ({"per_class": 1.5}, ConfigError),
        ({"per_class": -1}, ConfigError),
        ({"cap": 0}, ConfigError),
        ({"budget": ("MEL",)}, ConfigError),
        ({"budget": ("MEL=-2",)}, ConfigError),
        ({"budget": ("MELANOMA=2",)}, ConfigError),
        ({"budget": ("SCC=2",)}, InputError),
        ({"per_class": 0}, InputError),
    ],
)
def test_impossible_numbers_are_refused(workspace: Workspace, options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        images(workspace, **options)


def test_only_a_generator_writes_images(workspace: Workspace) -> None:
    make(workspace, "train", model="lightgbm", name="trees")
    with pytest.raises(InputError) as error:
        make(workspace, "synthesise", model="trees")
    assert error.value.found == "the model 'trees' classifies"
    for options in ({"model": "nobody"}, {"name": "nobody"}):
        with pytest.raises(InputError) as absent:
            make(workspace, "synthesise", **options)
        assert "nobody" in absent.value.found
    with pytest.raises(ConfigError):
        make(workspace, "synthesise")


def test_a_model_that_answers_no_images_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_colours.ClassColours, "synthesise", lambda self, labels, seeds: np.zeros((1, 2)))
    with pytest.raises(InputError) as error:
        images(workspace, per_class=1)
    assert "float64" in error.value.found


def test_an_image_that_repeats_a_training_photo_names_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = read_table(model(workspace, "colours").path / "trained_on.parquet").query("fold == 0 and part == 'train'")
    copied = learnt.iloc[0]["case_id"]
    plant(monkeypatch, workspace, copied)
    made = images(workspace, per_class=1)
    table = made.table()
    assert set(table.loc[table["fold"] == 0, "copy_of"].dropna()) == {f"clinic/{copied}"}
    assert made.info["copies"] >= 1


def plant(monkeypatch: pytest.MonkeyPatch, workspace: Workspace, case: str) -> None:
    """Let the generator write the photo of a case, smaller, in place of its melanomas."""
    photo = Image.fromarray(read_rgb(workspace.root / "clinic" / f"{case}.png"))
    whole = class_colours.ClassColours.synthesise

    def planted(self: Any, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        made = whole(self, labels, seeds)
        made[np.array(labels) == MELANOMA] = np.asarray(photo.resize((self.side_px, self.side_px)))
        return made

    monkeypatch.setattr(class_colours.ClassColours, "synthesise", planted)


MELANOMA = 2
"""Place of melanoma in pad6."""


def test_a_retrained_generator_makes_the_images_stale(workspace: Workspace) -> None:
    images(workspace, per_class=1)
    pipeline = Pipeline(workspace, written.Said(), upstream=False)
    assert pipeline.staleness(IMAGES) is None
    make(workspace, "train", model="class_colours", name="colours", settings=("side_px=16",), replace=True)
    assert "model" in str(pipeline.staleness(IMAGES))
    assert set(images(workspace, per_class=1).table()["side_px"]) == {16}


def test_synthetic_images_are_marked_where_they_are_shown(workspace: Workspace) -> None:
    images(workspace, per_class=1)
    context = Context(workspace.root, written.Said())
    shown = show.run(show.Config("synthetic/colours"), context)["text"]
    assert "synthetic images written by colours, no photos" in shown
    listed = list_command.run(list_command.Config("artifacts"), context)["artifacts"]
    assert "synthetic/colours" in listed
    states = {entry["artifact"]: entry["state"] for entry in status.run(status.Config(), context)["artifacts"]}
    assert states["synthetic/colours"] == "up to date"


def test_a_model_says_wherever_it_is_shown_that_it_learnt_from_synthetic_images(fed: Workspace) -> None:
    context = Context(fed.root, written.Said())
    assert "32 synthetic images by colours" in show.run(show.Config("models/fed"), context)["text"]
    assert model(fed, "fed").table()["n_synthetic"].tolist() == [16, 16]
    listed = {row["name"]: row["synthetic"] for row in models.run(models.Config(), context)["models"]}
    assert (listed["fed"], listed["plain"]) == ("colours", None)
    card = model(fed, "fed").json("model_card.json")
    assert card["training_data"]["synthetic"]["images"]["0"]["MEL"] == 8
    assert any("32 synthetic images by colours" in caution for caution in card["cautions"])
    assert "synthetic" not in (model(fed, "plain").path / "model_card.md").read_text()
    make(fed, "predict", name="fed", cohorts=["jinan"])
    make(fed, "evaluate", name="fed", cohorts=["jinan"], bootstrap=10, shortcuts=False)
    page = (make(fed, "report", model="fed").path / "index.html").read_text(encoding="utf-8")
    counts = "0: BCC 4, MEL 8, NEV 4; 1: BCC 4, MEL 8, NEV 4"
    assert f"Trained with 32 synthetic images written by colours ({counts})" in page
    listing = make(fed, "report", model="fed", standard="clear-derm")
    page = (listing.path / "index.html").read_text(encoding="utf-8")
    assert "32 synthetic images written by colours among the training rows" in page


# ---------------------------------------------------------------------------------------------------- training rows


FEW = {"model": "pooled_pixels", "weights": "none"}
"""A network that reads the photo alone."""


@pytest.fixture(scope="module")
def finished(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain with 4 images of each class and fold, and a network trained without and one with them."""
    root = tmp_path_factory.mktemp("trained") / "w"
    shutil.copytree(chain, root)
    workspace = load_workspace(root)
    images(workspace, per_class=4, budget=("MEL=8",))
    make(workspace, "train", **FEW, name="plain")
    make(workspace, "train", **FEW, name="fed", synthetic="colours")
    return root


@pytest.fixture
def fed(finished: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(finished, tmp_path / "w")
    return load_workspace(tmp_path / "w")


def test_synthetic_images_are_training_rows_of_their_fold_alone(fed: Workspace) -> None:
    table = open_artifact(fed.path(IMAGES)).table()
    trained_on = read_table(model(fed, "fed").path / "trained_on.parquet")
    own = trained_on[trained_on["cohort"] == "synthetic:colours"]
    assert set(own["part"]) == {"train"}
    assert set(zip(own["fold"], own["image_id"], strict=True)) == set(
        zip(table["fold"], table["image_id"], strict=True)
    )
    plain, more = (model(fed, name).json("model.json") for name in ("plain", "fed"))
    assert more["synthetic"]["images"] == {str(fold): {"BCC": 4, "MEL": 8, "NEV": 4} for fold in (0, 1)}
    assert (more["synthetic"]["parent"], more["cohorts"]) == ("colours", ["clinic"])
    for without, with_images in zip(plain["folds"], more["folds"], strict=True):
        assert with_images["n_synthetic"] == 16
        for name in ("n_train", "n_validation", "n_held_out", "class_counts"):
            assert with_images[name] == without[name]
        folder = f"fold_{with_images['fold']}"
        losses = [pd.read_parquet(model(fed, name).path / folder / "history.parquet") for name in ("plain", "fed")]
        assert losses[0]["train_loss"].tolist() != losses[1]["train_loss"].tolist()


def test_the_calibration_is_fitted_on_real_validation_rows_alone(fed: Workspace) -> None:
    for about in model(fed, "fed").json("model.json")["folds"]:
        rows = read_table(model(fed, "fed").path / "trained_on.parquet").query(f"fold == {about['fold']}")
        photos = rows[(rows["part"] == "validation")]
        assert set(photos["cohort"]) == {"clinic"}
        answered = network_answers(fed, about["fold"], photos)
        codes = model(fed, "fed").json("model.json")["classes"]["classes"]
        truth = np.array([codes.index(code) for code in split_of(fed, about["fold"], photos)])
        supposed = [about["temperature_prior"][code] for code in codes]
        fitted = metrics.fit_temperature(answered, truth, supposed, spread=SPREAD)
        assert fitted == pytest.approx(about["temperature"], rel=1e-3)


def test_novelty_is_measured_from_real_training_rows_alone(fed: Workspace) -> None:
    small_cohort.write_cohort(fed, "clinic", 60, seed=3)
    make(fed, "split", folds=1, validation=0.34)
    make(fed, "train", model="class_colours", name="colours", replace=True)
    images(fed, per_class=4)
    make(fed, "train", **FEW, name="fed", replace=True)
    rows = read_table(model(fed, "fed").path / "trained_on.parquet").query("fold == 0 and part == 'train'")
    real = rows[rows["cohort"] == "clinic"]
    mean = load_file(model(fed, "fed").path / "fold_0" / "novelty.safetensors")["mean"][-8:]  # of the photos
    assert network_answers(fed, 0, real, "encode").mean(0) == pytest.approx(mean, rel=1e-3, abs=1e-5)


def network_answers(workspace: Workspace, fold: int, photos: pd.DataFrame, what: str = "head") -> np.ndarray:
    """What a fold's network says of photos of the clinic."""
    classifier = trained.open_classifier(model(workspace, "fed"))
    network = classifier.network(classifier.chosen([fold])[0], "cpu")
    pixels = [read_rgb(workspace.root / "clinic" / f"{image}.png") for image in photos["image_id"]]
    squares = np.stack([resized(photo, 16) for photo in pixels]).astype(np.float32) / 255
    with torch.no_grad():
        batch = {"image": torch.from_numpy(squares).permute(0, 3, 1, 2)}
        seen = network.encode(batch)
        return (seen if what == "encode" else network.head(seen, batch)["diagnosis"]).double().numpy()


def split_of(workspace: Workspace, fold: int, photos: pd.DataFrame) -> list[str]:
    """The class of each photo."""
    rows = open_artifact(workspace.path(Ref("split", name="grouped"))).table().query(f"fold == {fold}")
    classes: list[str] = rows.set_index("case_id")["class"].loc[photos["case_id"]].tolist()
    return classes


def test_the_mix_that_the_probabilities_hold_for_is_that_of_the_loss(fed: Workspace) -> None:
    for about in model(fed, "fed").json("model.json")["folds"]:
        images_of = {"BCC": 4, "MEL": 8, "NEV": 4}
        rows = read_table(model(fed, "fed").path / "trained_on.parquet")
        real = rows[(rows["fold"] == about["fold"]) & (rows["part"] == "train") & (rows["cohort"] == "clinic")]
        counts = pd.Series(split_of(fed, about["fold"], real)).value_counts()
        shown = {code: int(counts.get(code, 0)) + n for code, n in images_of.items()}
        total = sum(shown.values())
        prior = {code: share for code, share in about["effective_class_prior"].items() if share}
        assert prior == pytest.approx({code: n / total for code, n in shown.items()})


def test_no_synthetic_image_is_predicted_scored_or_logged(fed: Workspace) -> None:
    for cohort in ("clinic", "jinan"):
        predictions = make(fed, "predict", name="fed", cohorts=[cohort])
        assert not predictions.table()["case_id"].str.startswith("synthetic").any()
        scores = make(fed, "evaluate", name="fed", cohorts=[cohort], bootstrap=10, shortcuts=False)
        assert scores.info["leakage"]["cases"] == 0
    log = (fed.root / test_access_log.LEDGER).read_text()
    assert "synthetic" not in log
    assert {json.loads(line)["cohort"] for line in log.splitlines()} == {"clinic", "jinan"}


def test_the_images_of_one_fold_do_not_reach_another(fed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(fed.path(IMAGES))
    mean = class_colours.ClassColours.load(model(fed, "colours").path / "fold_1").mean
    whole = class_colours.ClassColours.synthesise

    def darker(self: Any, labels: Any, seeds: Any) -> Any:
        made = whole(self, labels, seeds)
        return made // 2 if np.array_equal(self.mean, mean) else made

    monkeypatch.setattr(class_colours.ClassColours, "synthesise", darker)
    images(fed, per_class=4, budget=("MEL=8",))
    before = load_torch(model(fed, "fed").path / "fold_0" / NETWORK_FILE)
    again = make(fed, "train", **FEW, name="fed", replace=True)
    assert again.manifest["counts"]["kept"] == 1
    after = load_torch(again.path / "fold_0" / NETWORK_FILE)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_model_follows_its_images(fed: Workspace) -> None:
    ref = Ref("models", name="fed")
    pipeline = Pipeline(fed, written.Said(), upstream=False)
    assert pipeline.staleness(ref) is None
    (step,) = pipeline.make("train", FEW, name="fed")
    assert step.fresh
    images(fed, per_class=5)
    assert "synthetic" in str(pipeline.staleness(ref))
    with pytest.raises(RefusedError) as error:
        make(fed, "train", **FEW, name="fed", synthetic="none")
    assert "synthetic images none instead of colours" in error.value.found
    again = make(fed, "train", **FEW, name="fed").json("model.json")
    assert again["synthetic"]["images"]["0"] == {"BCC": 5, "MEL": 5, "NEV": 5}
    assert "synthetic" not in make(fed, "train", **FEW, name="fed", replace=True, synthetic="none").json("model.json")


# ---------------------------------------------------------------------------------------------------- leakage


def unseen(workspace: Workspace, part: str) -> str:
    """A case of the first fold in that part."""
    rows = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    return str(rows[(rows["fold"] == 0) & (rows["part"] == part)].iloc[0]["case_id"])


@pytest.mark.parametrize("part", ["validation", "held_out"])
def test_a_synthetic_image_that_is_a_photo_not_to_be_seen_is_refused(
    fed: Workspace, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    case = unseen(fed, part)
    plant(monkeypatch, fed, case)
    images(fed, per_class=1, name="leaky")
    with pytest.raises(RefusedError) as error:
        make(fed, "train", **FEW, name="other", synthetic="leaky")
    assert f"clinic/{case}" in error.value.found
    assert "synthetic:leaky/synthetic-0-MEL-00000" in error.value.found
    allowed = make(fed, "train", **FEW, name="other", synthetic="leaky", allow_leakage="a test")
    assert allowed.json("model.json")["leakage_allowed"] == "a test"


def test_an_exact_copy_is_refused_whatever_its_size(fed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    case = unseen(fed, "held_out")
    photo = read_rgb(fed.root / "clinic" / f"{case}.png")
    rows = open_artifact(fed.path(Ref("cases", "clinic"))).table()
    square = photo[:32, :32]
    Image.fromarray(square).save(fed.root / "clinic" / f"{case}.png")
    changes = {"pixel_sha256": pixel_sha256(square), "dhash": "0" * 16}
    mine = rows["case_id"] == case
    rows = rows.assign(**{name: rows[name].mask(mine, value) for name, value in changes.items()})
    written.write_cases(fed, "clinic", rows.astype(object).where(rows.notna(), None).to_dict("records"))
    fused = open_artifact(fed.path(Ref("fused", "clinic", "truth"))).table()
    mine = fused["case_id"] == case
    fused = fused.assign(**{name: fused[name].mask(mine, value) for name, value in changes.items()})
    small_cohort.write_fused(fed, "clinic", fused)
    make(fed, "split", folds=2, validation=0.34)
    make(fed, "train", model="class_colours", name="colours", replace=True)
    plant(monkeypatch, fed, case)
    images(fed, per_class=1)
    with pytest.raises(RefusedError) as error:
        make(fed, "train", **FEW, name="other", synthetic="colours")
    assert f"clinic/{case}" in error.value.found
    assert "identical pixels" in error.value.found


def test_an_image_that_was_exchanged_afterwards_is_refused(fed: Workspace) -> None:
    artifact = open_artifact(fed.path(IMAGES))
    place = artifact.path / artifact.table().iloc[0]["image_file"]
    place.unlink()
    shutil.copy(fed.root / "clinic" / f"{unseen(fed, 'held_out')}.png", place)
    with pytest.raises(RefusedError) as error:
        make(fed, "train", **FEW, name="other", synthetic="colours")
    assert place.name in error.value.found


def test_a_generator_that_learnt_from_unseen_lesions_is_refused(fed: Workspace) -> None:
    rows = open_artifact(fed.path(Ref("split", name="grouped")))
    leaky = rows.table().replace({"part": {"held_out": "train"}})
    written.write(fed, Ref("split", name="leaky"), leaky, rows.info)
    make(fed, "train", model="class_colours", name="leaky", split="leaky")
    make(fed, "synthesise", model="leaky", per_class=1)
    with pytest.raises(RefusedError) as error:
        make(fed, "train", **FEW, name="other", synthetic="leaky")
    assert "clinic/" in error.value.found
    assert "what the same fold of leaky learnt from" in error.value.found


def test_a_generator_of_another_split_is_refused_whatever_the_reason(fed: Workspace) -> None:
    rows = open_artifact(fed.path(Ref("split", name="grouped")))
    written.write(fed, Ref("split", name="copied"), rows.table(), rows.info)
    make(fed, "train", model="class_colours", name="elsewhere", split="copied")
    make(fed, "synthesise", model="elsewhere", per_class=1)
    for reason in ("", "a test"):
        with pytest.raises(RefusedError) as error:
            make(fed, "train", **FEW, name="other", synthetic="elsewhere", allow_leakage=reason)
        assert "another split (copied" in error.value.found


def test_an_external_copy_of_a_synthetic_image_is_refused(fed: Workspace) -> None:
    table = open_artifact(fed.path(IMAGES)).table()
    fused = open_artifact(fed.path(Ref("fused", "jinan", "truth"))).table()
    elsewhere = open_artifact(fed.path(Ref("cases", "jinan"))).table()
    copied, case = table.iloc[0], fused.loc[0, "case_id"]
    shutil.copy(fed.path(IMAGES) / copied["image_file"], fed.root / "jinan" / f"{case}.png")
    for name in ("pixel_sha256", "image_sha256"):
        fused[name] = fused[name].mask(fused["case_id"] == case, copied[name])
        elsewhere[name] = elsewhere[name].mask(elsewhere["case_id"] == case, copied[name])
    small_cohort.write_fused(fed, "jinan", fused)
    written.write_cases(fed, "jinan", elsewhere.astype(object).where(elsewhere.notna(), None).to_dict("records"))
    make(fed, "predict", name="fed", cohorts=["jinan"])
    with pytest.raises(RefusedError) as error:
        make(fed, "evaluate", name="fed", cohorts=["jinan"], bootstrap=10, shortcuts=False)
    assert copied["image_id"] in error.value.found


def test_beside_a_teacher_they_count_by_their_class(fed: Workspace) -> None:
    taught = make(fed, "train", **FEW, name="taught", teacher="plain", synthetic="colours")
    for fold in taught.json("model.json")["folds"]:
        assert fold["n_synthetic"] == 16
        history = pd.read_parquet(taught.path / f"fold_{fold['fold']}" / "history.parquet")
        assert np.isfinite(history["train_loss"]).all()


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_their_share_of_the_draws_is_the_one_asked_for(fed: Workspace, share: float) -> None:
    """Every photo once and synthetic images beside them; the prior counts each class as often as it is drawn."""
    options = {**FEW, "synthetic": "colours", "settings": (f"recipe.synthetic_share={share}",)}
    made = make(fed, "train", **options, name="mixed")
    for fold, without in zip(made.json("model.json")["folds"], model(fed, "plain").table()["fold"], strict=True):
        assert fold["fold"] == without
        real = read_table(made.path / "trained_on.parquet").query(f"fold == {without} and part == 'train'")
        n_photos = int((real["cohort"] == "clinic").sum())
        labels = open_artifact(fed.path(Ref("fused", "clinic", "truth"))).table().set_index("case_id")["diagnosis"]
        codes = {"nevus": "NEV", "melanoma": "MEL", "basal_cell_carcinoma": "BCC"}
        drawn = dict.fromkeys(codes.values(), 0.0)
        if share < 1:
            for case in real.loc[real["cohort"] == "clinic", "case_id"]:
                drawn[codes[labels[case]]] += 1
        beside = 16 if share == 1 else round(n_photos * share / (1 - share))
        for code, n in {"BCC": 4, "MEL": 8, "NEV": 4}.items():
            drawn[code] += beside * n / 16
        total = sum(drawn.values())
        prior = fold["effective_class_prior"]
        assert {code: prior[code] for code in drawn} == pytest.approx({code: n / total for code, n in drawn.items()})


def test_an_epoch_sees_every_photo_once_and_the_share_of_images() -> None:
    photos, synthetic = np.arange(30), np.arange(30, 40)
    shown, beside = rows.drawn(photos, synthetic, 0.5)
    phase = Phase("all", 1, batch=8)
    seen = [row for group in groups_of(shown.tolist(), phase, (0, 0, 1), 1, replay=beside) for row in group]
    assert sorted(row for row in seen if row < 30) == list(range(30))
    assert len(seen) == 60
    once, nothing = rows.drawn(photos, synthetic, 0.0)
    assert nothing is None
    assert once.tolist() == list(range(40))
    alone, nothing = rows.drawn(photos, synthetic, 1.0)
    assert nothing is None
    assert alone.tolist() == synthetic.tolist()
    with pytest.raises(InputError):
        rows.drawn(photos, synthetic[:0], 1.0)


def test_images_count_in_the_prior_as_much_as_in_the_loss(fed: Workspace) -> None:
    small = ("backbone=timm/vit_patch8_16x4x2", "side_px=32", "recipe.epochs=1", "recipe.batch=8")
    options = {"model": "vit", "weights": "none", "synthetic": "colours"}
    made = make(fed, "train", **options, name="light", settings=(*small, "synthetic_weight=0.25"))
    whole = make(fed, "train", **options, name="whole", settings=small)
    for light, full in zip(made.json("model.json")["folds"], whole.json("model.json")["folds"], strict=True):
        n_photos = light["n_train"]
        of_photos = {code: full["effective_class_prior"][code] * (n_photos + 16) for code in ("BCC", "MEL", "NEV")}
        for code, images_ in {"BCC": 4, "MEL": 8, "NEV": 4}.items():
            expected = (of_photos[code] - images_ + images_ / 4) / (n_photos + 4)
            assert light["effective_class_prior"][code] == pytest.approx(expected)


TINY = ("backbone=timm/vit_patch8_16x4x2", "side_px=32", "decoder_width=16", "decoder_depth=1", "decoder_heads=2")
SHORT = ("recipe.epochs=1", "recipe.batch=8")


@pytest.fixture(scope="module")
def pretraining(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a split over all photos, images of its folds, and a masked autoencoder of photos alone."""
    workspace = load_workspace(shutil.copytree(finished, tmp_path_factory.mktemp("pretraining") / "w"))
    make(workspace, "split", over="all")
    make(workspace, "train", model="class_colours", name="every", split="all")
    make(workspace, "synthesise", model="every", per_class=4)
    make(workspace, "train", model="mae", name="photos", settings=(*TINY, *SHORT))
    return workspace.root


@pytest.fixture
def of_every_photo(pretraining: Path, tmp_path: Path) -> Workspace:
    return load_workspace(shutil.copytree(pretraining, tmp_path / "w"))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_masked_autoencoder_learns_from_photos_images_or_both(of_every_photo: Workspace, share: float) -> None:
    settings = (*TINY, *SHORT, f"recipe.synthetic_share={share}")
    trained = make(of_every_photo, "train", model="mae", name="filled", synthetic="every", settings=settings)
    assert [fold["n_synthetic"] for fold in trained.json("model.json")["folds"]] == [12, 12]
    alone = model(of_every_photo, "photos")
    one, other = (load_torch(each.path / "fold_0" / NETWORK_FILE) for each in (trained, alone))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_pretraining_learns_from_them_too(of_every_photo: Workspace) -> None:
    make(of_every_photo, "train", model="masked_pixels", name="ssl", synthetic="every")
    with pytest.raises(RefusedError) as error:
        make(of_every_photo, "train", model="masked_pixels", name="other", synthetic="colours")
    assert "another split (grouped" in error.value.found or "share" in error.value.found
    about = model(of_every_photo, "ssl").json("model.json")
    assert [fold["n_synthetic"] for fold in about["folds"]] == [12, 12]
    make(of_every_photo, "train", model="pooled_pixels", name="started", weights="model:ssl")
    rows = read_table(model(of_every_photo, "started").path / "trained_on.parquet")
    assert set(rows.loc[rows["cohort"] == "synthetic:every", "part"]) == {"pretrain"}


@pytest.mark.parametrize(
    "options",
    [
        {"model": "lightgbm", "weights": ""},
        {"model": "concat"},
        {"model": "hybrid_resnet50", "attributes": "none"},
        {"model": "class_decoder"},
        {"classes": "malignancy"},
    ],
)
def test_models_that_read_more_than_a_photo_and_a_class_take_no_images(fed: Workspace, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make(fed, "train", **{**FEW, **options}, name="other", synthetic="colours")


def test_images_that_are_not_there_are_missed_by_name(fed: Workspace) -> None:
    with pytest.raises(InputError) as error:
        make(fed, "train", **FEW, name="other", synthetic="nothing")
    assert "no synthetic images 'nothing'" in error.value.found
