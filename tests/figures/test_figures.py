"""Figures: valid, deterministic, text as text; outlines where the border is and nowhere else."""

from __future__ import annotations

import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from skinkit.figures import canvas, explanations, photos, training
from skinkit.figures.curves import confusion, pr, radiomic_heatmap, roc, thinned
from skinkit.stats import metrics

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture
def curves() -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = {}
    for name in ("BCC", "MEL", "malignant"):
        positive = rng.random(80) < 0.4
        score = rng.normal(size=80) + positive
        found[name] = {
            **metrics.roc_curve(score, positive),
            **metrics.pr_curve(score, positive),
            "auroc": metrics.auroc(score, positive),
            "average_precision": metrics.average_precision(score, positive),
            "lower": 0.6123,
            "upper": 0.9456,
            "point": [0.2, 0.8],
            "prevalence": 0.4,
        }
    return found


def test_curves_name_classes_and_areas_as_text(curves: dict[str, dict[str, Any]]) -> None:
    curves["MEL"] |= {"auroc": None}
    for draw, area in ((roc, "auroc"), (pr, "average_precision")):
        svg = draw(curves, labels={"BCC": "基底细胞癌"}, title="jinan")
        shown = texts(svg)
        value = curves["BCC"][area]
        assert f"基底细胞癌  {value:.3f} (0.612 to 0.946)" in shown
        assert "jinan" in shown
        assert "Date" not in svg
        assert "date" not in svg
        assert "Noto Sans CJK SC" in svg
        assert svg == draw(curves, labels={"BCC": "基底细胞癌"}, title="jinan")
    assert "MEL  too few cases" in texts(roc(curves))
    assert "dot: at the threshold in use" in texts(roc(curves))


def test_every_class_has_its_own_colour_and_malignant_is_dark() -> None:
    classes = ["NV", "BKL", "DF", "VASC", "AK", "MM", "BCC", "SCC"]
    found = canvas.colours(classes)
    assert len(set(found.values())) == 9
    assert found["malignant"] == canvas.ALL_COLOUR
    assert canvas.colours(["benign", "malignant"]) == {"benign": canvas.PALETTE[0], "malignant": canvas.ALL_COLOUR}


def test_a_confusion_matrix_shows_counts_and_shares_of_the_truth() -> None:
    svg = confusion([[8, 2], [0, 0]], ["BCC", "MEL"], labels={"BCC": "basal cell carcinoma"})
    shown = texts(svg)
    assert {"8", "2", "80 %", "20 %", "basal cell carcinoma  (n = 10)", "MEL  (n = 0)"} <= set(shown)
    assert svg == confusion([[8, 2], [0, 0]], ["BCC", "MEL"], labels={"BCC": "basal cell carcinoma"})


def test_a_radiomic_heatmap_puts_like_rows_together() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(6, 60))
    z[[0, 3, 5], :30] += 4
    z[1, 1] = np.nan
    names = [f"original_firstorder_F{i}" for i in range(6)]
    svg = radiomic_heatmap(z, names, ["MEL"] * 30 + ["NEV"] * 30, labels={"MEL": "melanoma"})
    rows = [text for text in texts(svg) if text.startswith("firstorder")]
    assert sorted(rows) == [f"firstorder F{i}" for i in range(6)]
    places = sorted(rows.index(f"firstorder F{i}") for i in (0, 3, 5))
    assert places in ([0, 1, 2], [3, 4, 5])
    assert {"melanoma", "NEV", "60 lesions, like ones side by side"} <= set(texts(svg))


def test_many_cases_are_thinned_evenly_within_classes() -> None:
    classes = np.array(["a"] * 2700 + ["b"] * 297 + ["c"] * 3)
    kept = classes[thinned(classes)]
    assert abs(len(kept) - 600) <= 3
    assert {name: int((kept == name).sum()) for name in "abc"} == {"a": 540, "b": 59, "c": 1}
    svg = radiomic_heatmap(np.random.default_rng(0).normal(size=(2, 3000)), ["x", "y"], list(classes))
    assert "600 of 3000 lesions, like ones side by side" in texts(svg)


def test_a_learning_curve_is_a_picture_that_shows_what_was_kept() -> None:
    history = [
        {"phase": "all", "epoch": e, "train_loss": 1 / e, "macro_auroc": 0.9, "kept": e == 2, "seconds": 1.0}
        for e in (1, 2, 3)
    ]
    png = training.learning_curve(history)
    assert png == training.learning_curve(history)
    other = training.learning_curve([{**row, "kept": row["epoch"] == 3} for row in history])
    assert png.startswith(b"\x89PNG")
    assert png != other
    averaged = {**history[-1], "train_loss": float("nan"), "macro_auroc": 0.95, "kept": True}
    assert training.learning_curve([*history, averaged]) not in (png, other)
    assert training.learning_curve([]).startswith(b"\x89PNG")


def test_attribution_bars_are_ordered_and_the_rest_is_summed() -> None:
    entries = [{"attribute": f"a{i}", "value": "True", "contribution": 0.1 * i} for i in range(1, 6)]
    entries[0]["contribution"] = -2.0
    svg = explanations.attribution_bars(entries, unit="log_odds", limit=2)
    shown = texts(svg)
    assert "a1 = True" in shown
    assert "a5 = True" in shown
    assert "a4 = True" not in shown
    assert "3 others together" in shown
    assert {"−2", "+0.5", "+0.9"} <= set(shown)
    assert "contribution (log_odds)" in shown
    assert explanations.attribution_bars([]).startswith("<?xml")


def disc(radius: float = 30.0, size: int = 120) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - size / 2, x - size / 2) <= radius


@pytest.mark.parametrize("skin", [(60, 40, 30), (120, 80, 60), (240, 220, 205), (0, 0, 0), (255, 255, 255)])
def test_the_outline_lies_on_the_border_and_shows_on_any_skin(skin: tuple[int, int, int]) -> None:
    rgb = np.full((120, 120, 3), skin, dtype=np.uint8)
    shown = pixels(photos.overlay(rgb, disc()))
    changed = np.abs(shown.astype(int) - rgb).max(axis=2)
    y, x = np.mgrid[:120, :120]
    distance = np.abs(np.hypot(y - 60, x - 60) - 30)
    assert (changed[distance > 6] == 0).all()
    ring = changed[distance < 0.8]
    assert ring.min() > 40
    line = shown[60, 88:93].astype(int)
    assert line.max(axis=0).max() - line.min(axis=0).min() > 100


def test_no_outline_where_there_is_no_border() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, size=(40, 50, 3), dtype=np.uint8)
    for mask in (np.zeros((40, 50), bool), np.ones((40, 50), bool)):
        assert np.array_equal(pixels(photos.overlay(rgb, mask)), rgb)


def test_a_lesion_at_the_edge_of_the_photograph_is_outlined_inside_it() -> None:
    mask = np.zeros((60, 60), dtype=bool)
    mask[:, :20] = True
    shown = pixels(photos.overlay(np.full((60, 60, 3), 150, np.uint8), mask)).astype(int)
    assert (np.abs(shown[:, 17:23] - 150).max(axis=(1, 2)) > 60).all()
    assert (shown[:, :10] == 150).all()


def test_a_heatmap_colours_only_where_there_is_support() -> None:
    rgb = np.full((40, 40, 3), (200, 120, 100), dtype=np.uint8)
    heat = np.zeros((40, 40))
    heat[:20] = 1.0
    shown = pixels(photos.heatmap_overlay(rgb, heat))
    assert len(np.unique(shown[20:].reshape(-1, 3), axis=0)) == 1
    assert not np.array_equal(shown[0, 0], shown[39, 0])
    assert np.array_equal(shown, pixels(photos.heatmap_overlay(rgb, (heat * 255).astype(np.uint8))))
    outlined = pixels(photos.heatmap_overlay(rgb, heat, disc(10, 40)))
    assert not np.array_equal(outlined, shown)


def test_maps_of_another_size_are_refused() -> None:
    rgb = np.zeros((40, 50, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="shape"):
        photos.overlay(rgb, np.zeros((50, 40), dtype=bool))
    with pytest.raises(ValueError, match="shape"):
        photos.heatmap_overlay(rgb, np.zeros((20, 25)))
