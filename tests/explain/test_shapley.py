"""Explanations: they add up, they point where they should, and they are made case by case."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import written_artifacts as written
from PIL import Image

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError
from skinkit.evaluation.instructive import instructive
from skinkit.explain.shapley import (
    as_grey,
    enlarged,
    inside_share,
    log_odds,
    margin_weights,
    mixed,
    occlusion_cells,
    occlusion_of_mask,
    points_inside,
    ranked,
    shapley,
    softened,
    straightened,
)
from skinkit.images.decode import read_mask
from skinkit.learning import embeddings, trained
from skinkit.learning.examples import LesionMask, Photo
from skinkit.schemas import EXPLANATIONS
from skinkit.workspace import Ref, Workspace, load_workspace

pytestmark = pytest.mark.usefixtures("narrow_hybrid")
MALIGNANT = np.array([False, True, True, False, True, False])

# ------------------------------------------------------------------------------------------------- the equations


def test_log_odds_by_hand() -> None:
    z = np.log([0.1, 0.2, 0.3, 0.4])
    assert log_odds(z, np.array([True, False, False, False])) == pytest.approx(np.log(0.1 / 0.9))
    assert log_odds(z + 7, np.array([True, True, False, False])) == pytest.approx(np.log(0.3 / 0.7))


def test_margin_weights_are_the_gradient_of_the_log_odds() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=6)
    step = 1e-6
    gradient = [(log_odds(z + step * e, MALIGNANT) - log_odds(z - step * e, MALIGNANT)) / (2 * step) for e in np.eye(6)]
    np.testing.assert_allclose(margin_weights(z, MALIGNANT), gradient, atol=1e-8)


def test_two_classes_are_split_exactly() -> None:
    parts = np.random.default_rng(0).normal(size=(2, 5))  # (classes, inputs)
    z, positive = parts.sum(axis=1), np.array([False, True])
    assert margin_weights(z, positive) @ parts.sum(axis=1) == pytest.approx(log_odds(z, positive))


def test_ranked_sums_columns_of_an_attribute() -> None:
    entries = ranked(["sex", "age", "sex", "site"], [0.5, -2.0, 0.25, 0.0], {"sex": "male", "age": 40.0})
    assert entries == [
        {"attribute": "age", "value": 40.0, "contribution": -2.0},
        {"attribute": "sex", "value": "male", "contribution": 0.75},
    ]


def test_cells_divide_the_lesion_without_remainder() -> None:
    rows, columns = np.mgrid[:40, :50]
    mask = (columns - 20) ** 2 + (rows - 22) ** 2 < 150
    for cells in (1, 3, 6, 30):
        parts = occlusion_cells(mask, cells)
        assert len(parts) <= cells**2
        np.testing.assert_array_equal(sum(part.astype(int) for part in parts), mask.astype(int))
    assert len(occlusion_cells(mask, 6)) == 36 - 4  # the corners of a disc's box are empty


def test_occlusion_paints_the_part_that_carries_the_score() -> None:
    mask = np.zeros((12, 12), bool)
    mask[2:10, 2:10] = True
    carrier = np.zeros_like(mask)
    carrier[2:4, 8:10] = True  # top right cell of 4 x 4
    heat = occlusion_of_mask(mask, 4, lambda m: float((m & carrier).sum()))
    np.testing.assert_array_equal(heat, carrier * 4.0)
    opposed = occlusion_of_mask(mask, 4, lambda m: -float((m & carrier).sum()))
    assert not opposed.any()  # without it the score rises: no support
    assert not occlusion_of_mask(mask, 4, lambda m: None).any()
    partly = occlusion_of_mask(mask, 4, lambda m: None if m[9, 2] else float(m.sum()))
    assert not partly.any()


def test_heatmap_helpers_by_hand() -> None:
    heat = np.array([[0.0, 1.0], [3.0, 0.0]])
    assert inside_share(heat, np.array([[False, False], [True, True]])) == 0.75
    assert inside_share(heat * 0, np.ones((2, 2), bool)) is None
    assert points_inside(heat, np.array([[False, False], [True, True]])) is True
    assert points_inside(heat, np.array([[True, True], [False, True]])) is False
    assert points_inside(heat * 0, np.ones((2, 2), bool)) is None
    np.testing.assert_array_equal(as_grey(heat), [[0, 85], [255, 0]])
    assert not as_grey(heat * 0).any()
    assert enlarged(heat, (8, 6)).shape == (6, 8)
    assert enlarged(heat, (8, 6))[-1, 0] == pytest.approx(3, abs=0.2)


def test_shapley_values_of_two_by_hand() -> None:
    """Alone they are worth 1 and 2, together 7, nobody -1: half of what each adds first and of what it adds last."""
    worth = {(False, False): -1.0, (True, False): 1.0, (False, True): 2.0, (True, True): 7.0}
    phi = shapley(lambda present: np.array([worth[tuple(row)] for row in present.tolist()]), 2)
    np.testing.assert_allclose(phi, [(2 + 5) / 2, (3 + 6) / 2])


def test_sampled_shapley_values_are_near_the_exact_ones_and_add_up() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(15, 6))

    def worth(present: np.ndarray) -> np.ndarray:
        return np.maximum(present @ weights[: present.shape[1]], 0).sum(axis=1)

    def all_orders_of_a_few(present: np.ndarray) -> np.ndarray:
        """The last five of 15 players add nothing."""
        return worth(present[:, :10])

    exact, sampled = shapley(worth, 10), shapley(all_orders_of_a_few, 15)
    assert exact.sum() == pytest.approx(worth(np.ones((1, 10)))[0])
    assert sampled.sum() == pytest.approx(exact.sum())
    np.testing.assert_allclose(sampled[:10], exact, atol=0.15)
    np.testing.assert_allclose(sampled[10:], 0, atol=1e-12)
    np.testing.assert_array_equal(sampled, shapley(all_orders_of_a_few, 15))


# ------------------------------------------------------------------------------------------------------ the stage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "w"
    workspace = small_cohort.make(folder)
    written.run_stage(workspace, "train", settings=("rounds=25", "min_leaf=3"))
    written.run_stage(workspace, "predict")
    return folder


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(made, tmp_path / "w")
    return load_workspace(tmp_path / "w")


def explain(workspace: Workspace, cohort: str = "jinan", **given: Any) -> Any:
    (artifact,), _ = written.run_stage(workspace, "explain", cohorts=[cohort], **given)
    return artifact


def mean_log_odds(workspace: Workspace, model: str, row: Any, cohort: str) -> float:
    """The target's log odds of a case from the model's own predictions, fold by fold."""
    opened = trained.open_classifier(open_artifact(workspace.path(Ref("models", name=model))))
    frame = open_artifact(workspace.path(Ref("fused", cohort, "truth"))).table()
    frame = frame[frame["case_id"] == row["case_id"]]
    images = None
    if opened.reads_photos:
        photo = Photo(frame["pixel_sha256"].iloc[0], workspace.root / cohort / frame["image_path"].iloc[0])
        store = opened.store(workspace.root, "cpu")
        vectors, _ = embeddings.embed(opened.embedder("cpu"), [photo], store, device="cpu", console=written.Said())
        images = vectors[photo.pixel_sha256][None]
    predictions = open_artifact(workspace.path(Ref("predictions", cohort, model))).table()
    fold = predictions.query("level == 'image'").set_index("case_id").loc[row["case_id"], "fold"]
    odds = [
        log_odds(f.scores(trained.batch_of(frame, f.encoder, f.radiomics, images))[0], MALIGNANT)
        for f in opened.folds
        if str(fold) in ("<NA>", str(f.number))
    ]
    return float(np.mean(odds))


@pytest.mark.parametrize("cohort", ["clinic", "jinan"])
def test_attributions_add_up_to_the_prediction(cohort: str, workspace: Workspace) -> None:
    table = explain(workspace, cohort, cases=6, cells=2).table()
    assert set(EXPLANATIONS.names) <= set(table.columns)
    for row in table.to_dict("records"):
        entries = json.loads(row["attributions_json"])
        total = row["baseline"] + sum(entry["contribution"] for entry in entries)
        assert total == pytest.approx(mean_log_odds(workspace, "lightgbm", row, cohort), abs=1e-6)
        strengths = [abs(entry["contribution"]) for entry in entries]
        assert strengths == sorted(strengths, reverse=True)
        names = [entry["attribute"] for entry in entries]
        assert len(names) == len(set(names))
        assert (row["unit"], row["target"], row["method"]) == ("log_odds", "malignancy", "occlusion_of_mask")


def test_what_a_report_shows_is_explained_and_all_on_request(workspace: Workspace) -> None:
    table = open_artifact(workspace.path(Ref("predictions", "jinan", "lightgbm"))).table().query("level == 'image'")
    cases = open_artifact(workspace.path(Ref("cases", "jinan"))).table()
    truth = dict(zip(cases["case_id"], cases["diagnosis"], strict=True))
    model = trained.open_classifier(open_artifact(workspace.path(Ref("models", name="lightgbm"))))
    for each in (1, 2):
        shown = {case for _, case in instructive(table, truth, model.classes, each)}
        assert shown <= set(explain(workspace, cases=6, cells=2).table()["case_id"])
    best = table.sort_values("malignancy", ascending=False)["case_id"].tolist()
    assert explain(workspace, cases=1, cells=2).table()["case_id"].tolist() == best[:1]
    every = explain(workspace, cases=0, cells=2)
    assert set(every.table()["case_id"]) == set(best)
    assert every.manifest["counts"]["kept"] == 0  # limit is part of the recipe of every row


def test_a_named_case_is_explained_whatever_its_rank(workspace: Workspace) -> None:
    predictions = open_artifact(workspace.path(Ref("predictions", "jinan", "lightgbm"))).table()
    least = predictions.query("level == 'image'").sort_values("malignancy")["case_id"].iloc[0]
    assert explain(workspace, case=(least,), cases=1, cells=2).table()["case_id"].tolist() == [least]
    with pytest.raises(ConfigError, match="nobody"):
        explain(workspace, case=("nobody",))


def test_occlusion_heatmap_lies_inside_the_lesion_at_the_photos_size(workspace: Workspace) -> None:
    artifact = explain(workspace, cases=0, cells=4)
    fused = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table().set_index("case_id")
    painted = 0
    for row in artifact.table().to_dict("records"):
        heat = np.asarray(Image.open(artifact.path / row["heatmap_file"]))
        mask = read_mask(workspace.root / fused.loc[row["case_id"], "mask_path"])
        assert heat.shape == mask.shape == (small_cohort.HEIGHT, small_cohort.WIDTH)
        assert not heat[~mask].any()
        painted += heat.max() == 255
    assert painted >= 4


def test_occlusion_is_measured_anew_without_each_part(workspace: Workspace) -> None:
    """One cell of one case by hand, through the public extract and the model's own prediction."""
    from skinkit.images.decode import read_rgb
    from skinkit.radiomics import extract

    artifact = explain(workspace, cases=1, cells=2)
    (row,) = artifact.table().to_dict("records")
    frame = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    frame = frame[frame["case_id"] == row["case_id"]].reset_index(drop=True)
    model = trained.open_classifier(open_artifact(workspace.path(Ref("models", name="lightgbm"))))
    rgb, mask = (
        read_rgb(workspace.root / "jinan" / frame["image_path"][0]),
        read_mask(workspace.root / frame["mask_path"][0]),
    )

    def odds(part: np.ndarray) -> float:
        measured = frame.assign(**extract(rgb, part, **small_cohort.HOW))
        return float(
            np.mean(
                [
                    log_odds(f.scores(trained.batch_of(measured, f.encoder, f.radiomics))[0], MALIGNANT)
                    for f in model.folds
                ]
            )
        )

    falls = [max(0.0, odds(mask) - odds(mask & ~part)) for part in occlusion_cells(mask, 2)]
    heat = np.asarray(Image.open(artifact.path / row["heatmap_file"])).astype(float)
    expected = np.array(falls) / max(falls) * 255
    np.testing.assert_allclose([heat[part].mean() for part in occlusion_cells(mask, 2)], expected, atol=0.51)


def test_a_case_without_a_mask_has_attributions_and_says_why_no_heatmap(workspace: Workspace) -> None:
    frame = open_artifact(workspace.path(Ref("fused", "jinan", "truth"))).table()
    frame["mask_failed"] = True
    small_cohort.write_fused(workspace, "jinan", frame)
    written.run_stage(workspace, "predict", cohorts=["jinan"])
    table = explain(workspace, cases=2).table()
    assert table["heatmap_file"].isna().all()
    assert set(table["reason"]) == {"no_heatmap"}
    assert set(table["status"]) == {"ok"}
    assert all(json.loads(text) for text in table["attributions_json"])


def test_another_target_and_wrong_ones(workspace: Workspace) -> None:
    table = explain(workspace, target="NEV", cases=2, cells=2).table()
    assert set(table["target"]) == {"NEV"}
    for wrong in ({"target": "NEVUS"}, {"limit": -1}, {"cells": 0}):
        with pytest.raises(ConfigError):
            explain(workspace, **wrong)


def test_a_second_run_writes_nothing_and_workers_change_nothing(workspace: Workspace) -> None:
    from skinkit.pipeline import Pipeline

    first = explain(workspace, cases=4, cells=2)
    stamps = {f: f.stat().st_mtime_ns for f in first.path.rglob("*")}
    again = explain(workspace, cases=4, cells=2)
    assert {f: f.stat().st_mtime_ns for f in again.path.rglob("*")} == stamps
    shutil.rmtree(first.path)
    pipeline = Pipeline(workspace, written.Said(), upstream=False, jobs=2)
    (step,) = pipeline.make("explain", {"limit": 4, "cells": 2}, cohorts=["jinan"])
    assert step.artifact.identity == first.identity


# ------------------------------------------------------------------------------------------------------ Grad-CAM

torch = pytest.importorskip("torch")


@pytest.fixture
def probed(workspace: Workspace, tmp_path: Path) -> Workspace:
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18().state_dict(), tmp_path / "w.safetensors")
    settings = ("backbone=resnet18", "side_px=96", "c=0.01")
    written.run_stage(
        workspace, "train", model="frozen_probe", weights=str(tmp_path / "w.safetensors"), settings=settings
    )
    written.run_stage(workspace, "predict", model="frozen_probe")
    return workspace


@pytest.mark.parametrize("cohort", ["clinic", "jinan"])
def test_probe_attributions_add_up_and_heatmaps_are_measured(cohort: str, probed: Workspace) -> None:
    artifact = explain(probed, cohort, model="frozen_probe", cases=4)
    assert artifact.table()["status"].tolist() == ["ok"] * 4, artifact.table()["detail"].tolist()
    fused = open_artifact(probed.path(Ref("fused", cohort, "truth"))).table().set_index("case_id")
    for row in artifact.table().to_dict("records"):
        entries = json.loads(row["attributions_json"])
        assert "image" in {entry["attribute"] for entry in entries}
        total = row["baseline"] + sum(entry["contribution"] for entry in entries)
        assert total == pytest.approx(mean_log_odds(probed, "frozen_probe", row, cohort), abs=1e-6)
        heat = np.asarray(Image.open(artifact.path / row["heatmap_file"])).astype(float)
        assert heat.shape == (small_cohort.HEIGHT, small_cohort.WIDTH)
        if heat.any():
            mask = read_mask(probed.root / fused.loc[row["case_id"], "mask_path"])
            assert row["inside_mask"] == pytest.approx(inside_share(heat, mask), abs=0.01)
        assert row["method"] == "gradcam"


def test_grad_cam_is_the_gradient_weighted_sum_of_the_last_block(probed: Workspace) -> None:
    """The answer of captum against the definition, written with autograd."""
    from skinkit.explain.shapley import grad_cam

    opened = trained.open_classifier(open_artifact(probed.path(Ref("models", name="frozen_probe"))))
    network: Any = opened.embedder("cpu")
    rgb = np.asarray(Image.open(probed.root / "jinan" / "jinan-01-1.png"))
    images = torch.from_numpy(network.prepare(rgb)[None])
    fitted = [fold.fitted for fold in opened.folds]
    offsets = [np.zeros(6)] * 2
    module, layer = opened.model_class.explained(network, fitted, offsets, [1.0, 2.0], MALIGNANT)
    heat = grad_cam(module, layer, images)
    held: list[Any] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: held.append(out.requires_grad_()) or held[-1])
    (gradient,) = torch.autograd.grad(module(images).sum(), held[0])
    hook.remove()
    expected = torch.relu((gradient.mean((2, 3), keepdim=True) * held[0]).sum(1)).detach().numpy()
    assert heat.shape == expected.shape == (2, 3, 3)
    np.testing.assert_allclose(heat, expected, atol=1e-6)
    assert heat.max() > 0


def test_the_explained_module_is_the_model(probed: Workspace) -> None:
    """Its output is the mean log odds of the folds' own predictions."""
    opened = trained.open_classifier(open_artifact(probed.path(Ref("models", name="frozen_probe"))))
    network: Any = opened.embedder("cpu")
    frame = open_artifact(probed.path(Ref("fused", "jinan", "truth"))).table().iloc[[3]].reset_index(drop=True)
    rgb = np.asarray(Image.open(probed.root / "jinan" / frame["image_path"][0]))
    images = torch.from_numpy(network.prepare(rgb)[None])
    with torch.inference_mode():
        vector = network(images).numpy()
    odds, offsets = [], []
    for fold in opened.folds:
        batch = trained.batch_of(frame, fold.encoder, fold.radiomics, vector)
        odds.append(log_odds(fold.scores(batch)[0], MALIGNANT))
        parts = fold.fitted.contributions(batch)
        offsets.append(sum(part[0].sum(axis=1) for name, part in parts.items() if name != "image"))
    module, _ = opened.model_class.explained(
        network, [f.fitted for f in opened.folds], offsets, [f.temperature for f in opened.folds], MALIGNANT
    )
    assert float(module(images)) == pytest.approx(np.mean(odds), rel=1e-4)


# --------------------------------------------------------------------------------------------------------- networks

HYBRID = (
    "side_px=64",
    "image_epochs=0",
    "recipe.epochs=1",
    "recipe.batch=8",
    "branch_width=16",
    "mirrored=true",
    "recipe.optimiser=adamw",
)


@pytest.fixture(scope="module")
def seen(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small workspace with a hybrid of two folds; not to be changed."""
    folder = tmp_path_factory.mktemp("seen") / "w"
    shutil.copytree(made, folder)
    workspace = load_workspace(folder)
    given = {"model": "hybrid_resnet50", "weights": "none", "settings": HYBRID, "radiomics": "all"}
    written.run_stage(workspace, "train", **given)
    written.run_stage(workspace, "predict", model="hybrid_resnet50")
    return workspace


def networks_log_odds(workspace: Workspace, row: Any, cohort: str) -> list[tuple[Any, Any, float, float]]:
    """(network, batch, temperature, log odds) of each fold that predicted a case."""
    from skinkit.learning.examples import Examples, as_input

    opened = trained.open_classifier(open_artifact(workspace.path(Ref("models", name="hybrid_resnet50"))))
    frame = open_artifact(workspace.path(Ref("fused", cohort, "truth"))).table()
    frame = frame[frame["case_id"] == row["case_id"]].reset_index(drop=True)
    photo = Photo(frame["pixel_sha256"][0], workspace.root / cohort / frame["image_path"][0])
    masks = [LesionMask(workspace.root / frame["mask_path"][0], "")]
    predictions = open_artifact(workspace.path(Ref("predictions", cohort, "hybrid_resnet50"))).table()
    held_out = predictions.query("level == 'image'").set_index("case_id").loc[row["case_id"], "fold"]
    found = []
    for fold in opened.folds:
        if str(held_out) not in ("<NA>", "nan", str(fold.number)):
            continue
        arrays = trained.batch_of(frame, fold.encoder, fold.radiomics)
        network: Any = opened.network(fold, "cpu")
        examples = Examples(opened.model_class.READS, 64, [photo], masks=masks, arrays=arrays)
        batch = as_input(examples.batch([0]), "cpu")
        with torch.no_grad():
            scores = fold.calibrated(network.answer(batch)["diagnosis"].numpy())[0]
        found.append((network, batch, fold.temperature, log_odds(scores, MALIGNANT)))
    return found


@pytest.mark.parametrize(("cohort", "folds"), [("clinic", 1), ("jinan", 2)])
def test_a_networks_attributions_add_up_and_its_heatmaps_are_grad_cam(cohort: str, folds: int, seen: Workspace) -> None:
    artifact = explain(seen, cohort, model="hybrid_resnet50", cases=2)
    fused = open_artifact(seen.path(Ref("fused", cohort, "truth"))).table().set_index("case_id")
    rows = artifact.table().to_dict("records")
    assert [row["status"] for row in rows] == ["ok", "ok"], [row["detail"] for row in rows]
    for row in rows:
        entries = {e["attribute"]: e["contribution"] for e in json.loads(row["attributions_json"])}
        assert {"image", "age_years", "original_firstorder_Mean"} <= set(entries)
        told = networks_log_odds(seen, row, cohort)
        assert len(told) == folds
        odds = np.mean([one[3] for one in told])
        assert row["baseline"] + sum(entries.values()) == pytest.approx(odds, abs=1e-4)
        heat = np.asarray(Image.open(artifact.path / row["heatmap_file"])).astype(float)
        assert heat.shape == (small_cohort.HEIGHT, small_cohort.WIDTH)
        small = np.mean([_by_autograd(*one[:3]) for one in told], axis=0)
        expected = enlarged(small, (small_cohort.WIDTH, small_cohort.HEIGHT))
        np.testing.assert_allclose(heat, as_grey(expected), atol=1.01)
        if heat.any():
            mask = read_mask(seen.root / fused.loc[row["case_id"], "mask_path"])
            assert row["inside_mask"] == pytest.approx(inside_share(expected, mask), abs=1e-3)
            assert row["pointing_game"] == points_inside(expected, mask)


def _by_autograd(network: Any, batch: Any, temperature: float) -> np.ndarray:
    """Grad-CAM of the log odds by its definition, for a photo and its mirror image."""
    held: list[Any] = []
    hook = network.last.register_forward_hook(lambda _m, _i, out: held.append(out.requires_grad_()) or held[-1])
    z = network.answer(batch)["diagnosis"] / temperature
    malignant = torch.from_numpy(MALIGNANT)
    odds = torch.logsumexp(z[:, malignant], 1) - torch.logsumexp(z[:, ~malignant], 1)
    (gradient,) = torch.autograd.grad(odds.sum(), held[0])
    hook.remove()
    straight, mirrored = torch.relu((gradient.mean((2, 3), keepdim=True) * held[0]).sum(1)).detach().numpy()
    out: np.ndarray = straight + mirrored[:, ::-1]
    return out


def test_the_baseline_is_the_average_case(seen: Workspace) -> None:
    """Average columns and the average photo: exactly what the network says of them."""
    artifact = explain(seen, "jinan", model="hybrid_resnet50", cases=1)
    (row,) = artifact.table().to_dict("records")
    odds = []
    for network, batch, temperature, _ in networks_log_odds(seen, row, "jinan"):
        average = {name: torch.zeros_like(values) for name, values in batch.items()}
        with torch.no_grad():
            logits = network.head(network.reference_embedding[None], average)["diagnosis"]
            scores = logits[0].double().numpy() / temperature
        odds.append(log_odds(scores, MALIGNANT))
    assert row["baseline"] == pytest.approx(np.mean(odds), abs=1e-5)


def test_how_much_lies_on_the_lesion_is_told_beside_what_a_blind_map_scores(seen: Workspace) -> None:
    given = {"cohorts": ["jinan"], "model": "hybrid_resnet50", "limit": 4}
    (artifact,), said = written.run_stage(seen, "explain", **given)
    table = artifact.table().dropna(subset=["inside_mask"])
    fused = open_artifact(seen.path(Ref("fused", "jinan", "truth"))).table().set_index("case_id")
    encoded = artifact.info["on_the_lesion"]
    if table.empty:
        assert encoded is None
        return
    assert encoded["n"] == len(table)
    assert encoded["inside_mask"] == pytest.approx(table["inside_mask"].mean())
    assert encoded["pointing_game"] == pytest.approx(table["pointing_game"].astype(float).mean())
    assert encoded["area_share"] == pytest.approx(fused.loc[table["case_id"], "area_share"].mean())
    assert f"of {len(table)} heatmaps {encoded['inside_mask']:.0%} lies inside the lesion" in said


def test_pixelwise_heatmaps_are_painted_so_that_they_can_be_seen() -> None:
    """One pixel that stands out by far leaves the rest of the support visible; nothing stays nothing."""
    heat = np.zeros((100, 100))
    heat[40:60, 40:60] = 1.0
    heat[10, 90] = 50.0
    shown = softened(heat)
    assert shown.shape == heat.shape
    assert (shown.min(), shown.max()) == (pytest.approx(0, abs=1e-6), 1)
    assert shown[50, 50] > 0.4 > 0.05 > shown[80, 20]
    assert not softened(np.zeros((4, 4))).any()


def test_steps_of_repeated_places_are_smoothed_and_nothing_is_lost() -> None:
    places = np.zeros((1, 24, 24))
    places[0, 9:15, 12:18] = 1.0
    smooth = straightened(places, 6)
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.2
    assert smooth.sum() == pytest.approx(36, rel=1e-2)
    assert np.unravel_index(smooth.argmax(), smooth.shape) in {(r, c) for r in (11, 12) for c in (14, 15)}
    assert np.array_equal(straightened(places), places[0])


def test_heatmaps_of_other_sizes_are_added_by_what_they_say_in_all() -> None:
    small, large = np.zeros((7, 7)), np.zeros((14, 21))
    small[2:5, 2:5], large[4:9, 5:11] = 1.0, 0.25
    both = mixed([(small, 2.0), (large, 0.5)])
    assert both.shape == large.shape
    assert both.sum() == pytest.approx(2 * small.sum() + 0.5 * large.sum(), rel=1e-6)
    assert np.allclose(mixed([(small, 1.0)]), small)
