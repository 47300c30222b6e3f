"""The figures of segmentation: outlines beside those people drew, and the course of trainings."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts
from PIL import Image

from skinkit.cli import main
from skinkit.commands import Context, curves, gallery
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.figures.photos import OUTLINE, PREDICTED
from skinkit.workspace import Ref, Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Masks ``half`` of ``clinic``: each 10 % narrower than the last; two photos were learnt from."""
    root = tmp_path_factory.mktemp("gallery") / "ws"
    workspace = written_artifacts.make_workspace(root, {"clinic": "development"}, segmenter="truth")
    small_cohort.write_cohort(workspace, "clinic", patients=5, seed=1)
    files = sorted((workspace.root / "clinic" / "outlines").glob("*.png"))
    rows, pictures = [], {}
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            truth = np.array(picture) > 0
        mask = truth.copy()
        columns = np.flatnonzero(truth.any(axis=0))
        mask[:, columns[-1] + 1 - round(0.09 * place * len(columns)) :] = False
        stream = io.BytesIO()
        Image.fromarray(mask.astype(np.uint8) * 255).save(stream, format="png")
        pictures[f"png/{file.name}"] = stream.getvalue()
        iou = mask.sum() / truth.sum()
        row = {"image_id": file.stem, "mask_file": f"png/{file.name}", "iou": iou, "dice": 2 * iou / (1 + iou)}
        rows.append({**row, "status": "ok", "in_sample": place >= 8})
    written_artifacts.write(workspace, Ref("masks", "clinic", "half"), rows, files=pictures)
    return workspace


def context(workspace: Workspace, *cohorts: str) -> Context:
    return Context(workspace.root, Console(quiet=True), cohorts=cohorts)


def test_the_gallery_shows_best_median_and_worst_of_photos_that_were_not_learnt_from(workspace: Workspace) -> None:
    answer = gallery.run(gallery.Config(masks="half", cases=2, ids=True), context(workspace))
    told = answer["galleries"]["clinic"]
    assert (told["n"], told["n_clusters"]) == (8, 4)
    shown = {kind: [row["image_id"] for row in rows] for kind, rows in told["shown"].items()}
    assert shown == {
        "best": ["clinic-00-1", "clinic-00-2"],
        "median": ["clinic-02-1", "clinic-01-2"],
        "worst": ["clinic-03-2", "clinic-03-1"],
    }
    iou = told["iou_mean"]
    assert (iou["lower"], iou["upper"]) == (None, None)  # four patients
    assert f"IoU mean {iou['estimate']:.3f} (too few patients)" in answer["text"]
    with Image.open(told["figures"]["png"]) as picture:
        pixels = np.array(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in (OUTLINE, PREDICTED[0]):
        assert (np.abs(pixels - colour).sum(axis=1) < 40).sum() > 200
    assert "clinic-03-2" in Path(told["figures"]["svg"]).read_text()
    assert json.loads((workspace.root / "gallery" / "clinic" / "half.json").read_text())["n"] == 8


def test_two_segmenters_in_one_gallery(workspace: Workspace) -> None:
    from skinkit.artifacts.artifact import open_artifact

    half = open_artifact(workspace.path(Ref("masks", "clinic", "half")))
    table = half.table().iloc[:6].assign(iou=0.5, dice=2 / 3)
    files = {name: (half.path / name).read_bytes() for name in table["mask_file"]}
    written_artifacts.write(workspace, Ref("masks", "clinic", "other"), table, files=files)
    config = gallery.Config(masks="half", against="other", cases=1)
    told = gallery.run(config, context(workspace))["galleries"]["clinic"]
    assert told["n"] == 6  # photos that both drew
    assert told["against"]["masks"] == "other"
    assert told["against"]["iou_median"]["estimate"] == 0.5
    assert told["iou_median"]["estimate"] > 0.5
    difference = told["against"]["difference"]["iou_mean"]["estimate"]
    assert difference == pytest.approx(told["iou_mean"]["estimate"] - 0.5)
    svg = Path(told["figures"]["svg"])
    assert svg.name == "half-other.svg"
    assert "other: IoU 0.50, Dice 0.67" in svg.read_text()
    with pytest.raises(InputError) as error:
        gallery.run(gallery.Config(masks="half", against="third"), context(workspace))
    assert "third" in error.value.found


def test_an_outline_that_never_looks_is_measured_beside_and_for_each_place(workspace: Workspace) -> None:
    config = gallery.Config(masks="half", control=True, by="sex", cases=1)
    answer = gallery.run(config, context(workspace))
    found = answer["galleries"]["clinic"]
    control = found["control"]
    # The drawn lesions are ellipses in the middle, of other sizes and proportions than the mean.
    assert 0.5 < control["iou_mean"]["estimate"] < 1
    both = found["iou_mean"]["estimate"] - control["iou_mean"]["estimate"]
    assert control["difference"]["iou_mean"]["estimate"] == pytest.approx(both)
    assert sum(part["n"] for part in found["parts"].values()) == found["n"] == 8
    assert "half minus centred ellipse" in answer["text"]
    assert all(f" sex {part}: " in answer["text"] for part in found["parts"])
    with pytest.raises(ConfigError) as error:
        gallery.run(gallery.Config(masks="half", by="centre"), context(workspace))
    assert "centre" in error.value.found


def test_the_gallery_shows_no_photo_twice_and_hides_ids(workspace: Workspace) -> None:
    assert gallery._chosen(1, 5) == {"best": [0]}
    assert gallery._chosen(2, 5) == {"best": [1], "median": [0]}
    places = gallery._chosen(7, 5)
    assert {kind: list(of) for kind, of in places.items()} == {"best": [6, 5], "median": [2, 3], "worst": [0, 1]}
    told = gallery.run(gallery.Config(masks="half", cases=1), context(workspace, "clinic"))["galleries"]["clinic"]
    assert "clinic-0" not in Path(told["figures"]["svg"]).read_text()


def test_a_gallery_without_anything_to_show_says_so(workspace: Workspace) -> None:
    with pytest.raises(InputError) as error:
        gallery.run(gallery.Config(masks="unet"), context(workspace))
    assert "masks 'unet'" in error.value.found
    with pytest.raises(ConfigError, match="--cases 0"):
        gallery.run(gallery.Config(cases=0), context(workspace))


# ------------------------------------------------------------------------------------------------------- curves


def write_network(workspace: Workspace, name: str, iou: list[float], starts_from: str) -> None:
    """A trained segmenter's folder, with the history of these epochs and a mean of weights at the end."""
    epochs: list[dict[str, Any]] = [
        {"phase": "all", "epoch": i, "learning_rate": 1e-5, "train_loss": 1 / i, "iou": value, "dice": value,
         "seconds": 1.0, "kept": value == max(iou)}
        for i, value in enumerate(iou, start=1)
    ]  # fmt: skip
    epochs.append({**epochs[-1], "train_loss": math.nan, "iou": 0.99, "kept": False})
    stream = io.BytesIO()
    pd.DataFrame(epochs).to_parquet(stream, index=False)
    files = {
        "fold_0/history.parquet": stream.getvalue(),
        "fold_0/fold.json": json.dumps({"fold": 0, "starts_from": starts_from}).encode(),
    }
    written_artifacts.write(workspace, Ref("models", name=name), [{"fold": 0, "n_train": 4}], files=files)


def test_curves_say_who_learns_faster(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    write_network(workspace, "coco", [0.7, 0.85, 0.9, 0.88], "COCO weights")
    write_network(workspace, "imagenet", [0.2, 0.5, 0.7, 0.84, 0.89], "ImageNet weights")
    arguments = ["curves", "coco", "imagenet", "-w", str(workspace.root), "--labels", "COCO,ImageNet"]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    first, second = answer["curves"]
    assert (first["label"], first["epochs"], first["best"], first["best_epoch"]) == ("COCO", 4, 0.9, 3)
    assert first["level"] == pytest.approx(0.95 * 0.89)
    assert (first["level_epoch"], second["level_epoch"]) == (2, 5)
    assert second["starts_from"] == "ImageNet weights"
    svg = Path(answer["figures"]["svg"])
    assert svg == workspace.root / "curves" / "coco-imagenet.svg"
    text = svg.read_text()
    assert all(word in text for word in ("COCO", "ImageNet", "training loss", "validation IoU"))
    folder = workspace.path(Ref("models", name="coco"))
    elsewhere = curves.run(curves.Config(models=(str(folder), "imagenet")), context(workspace))
    assert elsewhere["curves"][0]["label"] == "coco"


def test_misuse_of_curves_is_told(workspace: Workspace) -> None:
    write_network(workspace, "coco", [0.7, 0.8], "COCO weights")
    for given, kind, found in (
        ({"models": ()}, ConfigError, "different models"),
        ({"models": ("coco", "coco")}, ConfigError, "different models"),
        ({"models": ("coco",), "labels": ("a", "b")}, ConfigError, "one label each"),
        ({"models": ("cocoa",)}, InputError, "no model 'cocoa'"),
        ({"models": ("coco",), "fold": 3}, InputError, "no fold_3/history.parquet"),
    ):
        with pytest.raises(kind, match=found):
            curves.run(curves.Config(**given), context(workspace))  # type: ignore[arg-type]
