"""The ensemble: its equations, what it chooses from, and where its heatmaps lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import written_artifacts as written

torch = pytest.importorskip("torch")

from skinkit.errors import ConfigError  # noqa: E402
from skinkit.explain.shapley import grad_cam  # noqa: E402
from skinkit.learning import trained  # noqa: E402
from skinkit.models import Labelled, ensemble  # noqa: E402
from skinkit.models.ensemble import CaseVersions, Config, Ensemble, Expert, ExpertInput  # noqa: E402
from skinkit.models.parts import backbone  # noqa: E402

SIDE = 32


def crossed(n: int = 400) -> tuple[Any, Any]:
    """Two columns of which only the sign of the product tells the class."""
    rows = np.random.default_rng(0).normal(size=(n, 2))
    return rows, (rows.prod(1) > 0).astype(np.int64)


def labelled(attributes: Any, labels: Any, image: Any = None, groups: Any = None, **hidden: Any) -> Labelled:
    nothing = np.zeros((len(labels), 0))
    image = np.zeros((len(labels), 2)) if image is None else image
    return Labelled({"image": image, "attributes": attributes, "radiomics": nothing, **hidden}, labels, groups)


def metadata_expert(rows: Any, labels: Any, rho: float, c: float = 1.0) -> Expert:
    cases = CaseVersions.of(Config(), labelled(rows, labels))
    return Expert.fit(ExpertInput("metadata", "attributes", 0, rows.shape[1], interactions=rho), cases, 2, [c])[0]


def test_products_of_columns_tell_what_no_column_tells() -> None:
    rows, labels = crossed()
    right = {}
    for rho in (0.0, 0.5):
        answers = metadata_expert(rows, labels, rho, 10.0).scores({"attributes": rows}).argmax(1)
        right[rho] = (answers == labels).mean()
    assert right[0.5] > 0.95
    assert right[0.0] < 0.65


def test_the_expert_of_metadata_is_equation_3() -> None:
    rows, labels = crossed()
    expert = metadata_expert(rows, labels, 0.3)
    given = np.random.default_rng(1).normal(size=(5, 2))
    m = 2 * np.tanh((given - rows.mean(0)) / rows.std(0) / 2)
    phi = np.column_stack([m, 0.3 * m[:, 0] ** 2, 0.3 * m[:, 0] * m[:, 1], 0.3 * m[:, 1] ** 2])
    np.testing.assert_allclose(expert.scores({"attributes": given}), phi @ expert.weight.T + expert.bias, atol=1e-12)
    parts = expert.parts({"attributes": given})
    np.testing.assert_allclose(parts.sum(2) + expert.bias, expert.scores({"attributes": given}), atol=1e-12)
    of_first = np.column_stack([m[:, 0], phi[:, 2], phi[:, 3] / 2])  # half of the product of both
    own = of_first @ expert.weight[:, [0, 2, 3]].T
    np.testing.assert_allclose(parts[:, :, 0], own, atol=1e-12)


def test_one_outlier_says_no_more_than_a_large_value() -> None:
    expert = metadata_expert(*crossed(), 0.3)
    large, absurd = expert.scores({"attributes": np.array([[6.0, 6.0], [1e6, 1e6]])})
    np.testing.assert_allclose(large, absurd, atol=0.1)


def test_the_expert_of_photos_is_equation_4_and_reads_its_own_columns() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (30, 20, 10))
    image = np.abs(rng.normal(size=(60, 90)) + labels[:, None] * (np.arange(90) < 5))
    cases = CaseVersions.of(Config(), labelled(np.zeros((60, 0)), labels, image))
    expert = Expert.fit(ExpertInput("middle", "image", 40, 90, root=True), cases, 3, [0.01])[0]
    root = np.sqrt(image[:, 40:] + 0.01) - 0.1
    u = (root - root.mean(0)) / root.std(0)
    same = LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000, tol=1e-8).fit(u, labels)
    found = expert.scores({"image": image})
    np.testing.assert_allclose(found - found[:, :1], (s := same.decision_function(u)) - s[:, :1], atol=2e-2)


def test_equal_rows_count_once_with_their_weight() -> None:
    """Hiding everything makes all cases of a class the same row: merged or not, the solution is the same."""
    rows, labels = crossed(60)
    train = labelled(rows, labels, all_hidden=np.full_like(rows, 3.0), block_hidden=rows * [1, 0])
    cases = CaseVersions.of(Config(hidden=0.2, hidden_block=0.3), train)
    once, of_once, weights = cases.rows_of(ExpertInput("metadata", "attributes", 0, 2))
    assert len(once) < 3 * 60 - 50
    assert weights.sum() == pytest.approx(60)
    whole = np.concatenate([inputs["attributes"] for inputs in cases.versions])
    counted = np.repeat(cases.shares, 60)
    for row, label, weight in zip(once, of_once, weights, strict=True):
        same = (whole == row).all(1) & (np.tile(labels, 3) == label)
        assert weight == pytest.approx(counted[same].sum())


def photographed(informative: float, n: int = 120) -> Labelled:
    """Three classes that one attribute tells well, and of photo features ``informative`` of the way."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    attributes = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[labels]
    image = np.abs(rng.normal(size=(n, 40)))
    image[:, :3] += informative * np.eye(3)[labels]
    return labelled(attributes, labels, image, np.arange(n))


def fitted(train: Labelled, n_classes: int = 3, **settings: Any) -> Ensemble:
    none = labelled(np.zeros((0, train.inputs["attributes"].shape[1])), np.zeros(0, int), np.zeros((0, 40)))
    return Ensemble.fit(Config(**settings), train, none, n_classes=n_classes, seed=0)


def weight_of(model: Ensemble) -> dict[str, float]:
    return {e.reads.name: w for w, e in zip(model.weights, model.experts, strict=True)}


def test_an_expert_counts_as_much_as_it_tells_of_other_patients() -> None:
    told, blind = (louder(photographed(informative)) for informative in (2.0, 0.0))
    assert set(told) == {"whole", "metadata"}
    assert told["whole"] > 0.5 * told["metadata"]
    assert blind["whole"] < 0.2 * blind["metadata"]


def louder(train: Labelled, n_classes: int = 3) -> dict[str, float]:
    """Expert -> how much its share of the scores differs from case to case."""
    shares = fitted(train, n_classes, middle=False).shares(train.inputs)
    return {name: float(share.std(0).mean()) for name, share in shares.items()}


def test_photos_of_a_patient_stay_together() -> None:
    """Features that know the patient, and no more, seem to tell the class where a patient is on both sides."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3)
    labels = np.repeat(np.arange(40) % 2, 3)
    image = np.abs(rng.normal(size=(40, 40))[groups] + 0.05 * rng.normal(size=(120, 40)))
    nothing = np.zeros((120, 0))
    apart = louder(labelled(nothing, labels, image, groups), 2)
    mixed = louder(labelled(nothing, labels, image, np.arange(120)), 2)
    assert mixed["whole"] > 3 * apart["whole"]


def test_validation_rows_decide_nothing() -> None:
    train = photographed(1.0)
    other = labelled(train.inputs["attributes"][::-1], train.labels[::-1], train.inputs["image"])
    one, two = (Ensemble.fit(Config(), train, v, n_classes=3, seed=0) for v in (train, other))
    np.testing.assert_array_equal(one.predict(train.inputs), two.predict(train.inputs))


def test_a_model_is_the_weighted_sum_of_its_experts_and_survives_its_file(tmp_path: Path) -> None:
    train = photographed(1.0)
    model = fitted(train)
    total = model.offsets + sum(model.shares(train.inputs).values())
    expected = total - np.logaddexp.reduce(total, axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(train.inputs), expected, atol=1e-12)
    apart = model.contributions(train.inputs)
    np.testing.assert_allclose(sum(part.sum(2) for part in apart.values()), total, atol=1e-9)
    assert apart["image"].shape == (120, 3, 1)
    model.save(tmp_path)
    np.testing.assert_array_equal(Ensemble.load(tmp_path).predict(train.inputs), model.predict(train.inputs))


def test_equal_weights_are_asked_for_and_few_patients_leave_them() -> None:
    assert set(weight_of(fitted(photographed(1.0), weights="equal")).values()) == {1.0}
    few = photographed(1.0, 120)
    alone = Labelled(few.inputs, few.labels, np.zeros(120))
    assert set(weight_of(fitted(alone)).values()) == {1.0}


def test_a_class_without_a_case_is_never_its_answer() -> None:
    train = photographed(1.0)
    assert np.exp(fitted(train, 4).predict(train.inputs))[:, 3].max() == 0


def test_no_expert_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        fitted(photographed(1.0), whole=False, middle=False, metadata=False)
    assert "no expert" in error.value.found
    with pytest.raises(ConfigError):
        Config(hidden=0.7, hidden_block=0.4)


# -------------------------------------------------------------------------------------------------- the photo
class Pixels(torch.nn.Module):
    """A backbone whose maps are the photo itself, so that one sees where they lie."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.last = torch.nn.Identity()
        self.net = torch.nn.Conv2d(1, 1, 1)
        self.widths = (3, 3, 3, 3)

    def forward(self, x: Any) -> tuple[Any, ...]:
        return tuple(torch.nn.functional.avg_pool2d(x, size) for size in (2, 4, 8, 8))


def photos(n: int = 2) -> Any:
    return np.random.default_rng(0).integers(0, 256, (n, 50, 70, 3), dtype=np.uint8)


def looked(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    monkeypatch.setattr(backbone, "Backbone", Pixels)
    return ensemble._views(Config(side_px=SIDE, **settings))


def test_maps_for_heatmaps_lie_where_the_photo_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each version, turned back, they are the photo in small; those of its middle lie in the middle."""
    views = looked(monkeypatch)
    kept: list[Any] = []
    views.last.register_forward_hook(lambda _module, _inputs, out: kept.append(out))
    batch = torch.from_numpy(np.stack([views.prepare(rgb) for rgb in photos()]))
    with torch.enable_grad():
        watched = views(batch)
    with torch.no_grad():
        torch.testing.assert_close(views(batch), watched)
    assert len(kept) == 1  # only where a heatmap is wanted
    grid = kept[0].unflatten(1, (2, 4, 3))  # (n, views, versions, RGB, 24, 24)
    small = batch.permute(0, 3, 1, 2).float() / 255
    whole = torch.nn.functional.interpolate(small, (SIDE, SIDE), mode="bilinear", antialias=True)
    for version in range(4):
        torch.testing.assert_close(grid[:, 0, version, :, ::6, ::6], torch.nn.functional.avg_pool2d(whole, 8))
        middle = torch.nn.functional.avg_pool2d(small[..., 8:40, 8:40], 8)
        torch.testing.assert_close(grid[:, 1, version, :, 4:20:4, 4:20:4], middle)
    assert not grid[:, 1, :, :, :4].any()


@pytest.mark.parametrize("names", [("whole", "middle"), ("whole",)])
def test_a_heatmap_shows_the_place_that_speaks_for_the_class(monkeypatch: pytest.MonkeyPatch, names: Any) -> None:
    """Red speaks for the class: the red spot is hot, in the photo's own frame."""
    views = looked(monkeypatch, metadata=False)
    places = [ExpertInput(name, "image", 12 * i, 12 * i + 12, root=True) for i, name in enumerate(names)]
    expert = [Expert(place, *_about_red()) for place in places]
    model = Ensemble(Config(side_px=SIDE), tuple(expert), np.ones(len(names)), np.zeros(2), (1.0,) * len(names))
    rgb = np.zeros((48, 48, 3), np.uint8)
    rgb[6:18, 30:42, 0] = 255
    module, layer = Ensemble.explained(views, [model], [np.zeros(2)], [1.0], np.array([False, True]))
    (heat,) = grad_cam(module, layer, torch.from_numpy(views.prepare(rgb)[None]))
    assert heat.shape == (24, 24)
    rows, columns = np.indices(heat.shape) + 0.5
    assert (rows * heat).sum() / heat.sum() == pytest.approx(6, abs=1)
    assert (columns * heat).sum() / heat.sum() == pytest.approx(18, abs=1)


def test_without_an_expert_of_photos_no_place_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    views = looked(monkeypatch)
    model = Ensemble(Config(side_px=SIDE), (), np.ones(0), np.zeros(2), ())
    module, layer = Ensemble.explained(views, [model], [np.zeros(2)], [1.0], np.array([False, True]))
    (heat,) = grad_cam(module, layer, torch.from_numpy(views.prepare(photos(1)[0])[None]))
    assert heat.shape == (24, 24)
    assert not heat.any()


def _about_red() -> tuple[Any, ...]:
    weight = np.zeros((2, 12))
    weight[1, [6, 9]] = 1.0  # mean and maximum of red in the last maps
    return np.zeros(12), np.ones(12), weight, np.zeros(2)


def test_it_is_trained_used_and_explained_through_the_stages(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "w", folds=2, patients=12)
    (artifact,), _ = written.run_stage(workspace, "train", model="ensemble", settings=("side_px=64",))
    model = trained.open_classifier(artifact)
    about = json.loads((model.folder(model.folds[0]) / "ensemble.json").read_text())
    assert [expert["name"] for expert in about["experts"]] == ["whole", "middle", "metadata"]
    learnt = [share for share in model.about["folds"][0]["effective_class_prior"].values() if share]
    np.testing.assert_allclose(learnt, 1 / len(learnt))
    (predicted,), _ = written.run_stage(workspace, "predict", name="ensemble", cohorts=["jinan"])
    assert (predicted.table()["status"] == "ok").all()
    (explained,), _ = written.run_stage(workspace, "explain", cohorts=["jinan"], model="ensemble", limit=2)
    for row in explained.table().to_dict("records"):
        assert row["method"] == "gradcam"
        entries = json.loads(row["attributions_json"])
        assert "image" in {entry["attribute"] for entry in entries}
        assert (explained.path / row["heatmap_file"]).is_file()


# -------------------------------------------------------------------------------------------------------- members
def with_member(right: float, n: int = 180) -> Labelled:
    """Cases of which a member that is right in this share has learnt the first two thirds."""
    train = photographed(0.5, n)
    rng = np.random.default_rng(1)
    answered = np.where(rng.random(n) < right, train.labels, rng.integers(0, 3, n))
    members = np.log(np.full((n, 3), 0.1) + 0.7 * np.eye(3)[answered])
    members[: n * 2 // 3] = np.nan
    return Labelled({**train.inputs, "members": members}, train.labels, train.groups)


def test_a_member_counts_as_much_as_it_tells_of_cases_it_has_not_learnt() -> None:
    good, bad = (fitted(with_member(right)) for right in (0.9, 0.0))
    assert len(good.weights) == len(good.experts) + 1 == 4
    assert good.weights[-1] > 0.6
    assert bad.weights[-1] < 0.2
    case = {name: values[-60:] for name, values in with_member(0.9).inputs.items()}
    assert set(good.shares(case)) == {"whole", "middle", "metadata", "member_0"}


def test_experts_are_weighed_on_cases_that_no_expert_was_fitted_to() -> None:
    """Weights do not change when the cases that members have learnt from are other ones for the final experts."""
    train = with_member(0.9)
    model = fitted(train)
    alone = fitted(Labelled({name: values[:120] for name, values in train.inputs.items() if name != "members"},
                            train.labels[:120], train.groups[:120]))  # fmt: skip
    assert model.penalties == alone.penalties
    assert not np.array_equal(model.experts[0].weight, alone.experts[0].weight)  # the final ones read all rows


def test_probabilities_with_members_hold_for_the_mix_of_theirs() -> None:
    model = fitted(with_member(0.9))
    mix = np.array([[0.5, 0.3, 0.2]])
    prior = model.effective_class_prior(3, mix)
    assert prior is not None
    np.testing.assert_allclose(prior, mix[0] ** model.weights[-1])
    even = model.effective_class_prior(3)
    assert even is not None
    assert set(even) == {1.0}


def test_offsets_make_up_for_a_rare_class_that_is_learnt_too_well() -> None:
    """Of many columns that tell nothing, the rare class is found among new cases only with them."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (150, 150, 12))
    image = np.abs(rng.normal(size=(312, 400)))
    image[:, :3] += 0.8 * np.eye(3)[labels]
    train = labelled(np.zeros((312, 0)), labels, image, np.arange(312))
    fitted, even = (Ensemble.fit(Config(weights=w), train, train, n_classes=3, seed=0) for w in ("fitted", "equal"))
    assert fitted.offsets[2] == fitted.offsets.max() > 0.1
    assert not even.offsets.any()
