"""The study of the dual network: its baselines, and the whole of it on phantoms laid out as HAM10000."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skinkit import cli
from skinkit.commands import ablate
from skinkit.commands._trainings import PlannedArtifact, shared_settings
from skinkit.data.ham10000 import LABELS, LOCALIZATIONS
from skinkit.data.phantoms import Hospital, write_cohort
from skinkit.models import load_model, model_config
from skinkit.studies import load_study

SITES = {ours: theirs for theirs, ours in LOCALIZATIONS.items()}
CODES = {ours: theirs for theirs, ours in LABELS.items()} | {"squamous_cell_carcinoma": "akiec"}
CODES["seborrheic_keratosis"] = "bkl"
SETTINGS = (
    "side_px=32,backbone=resnet18,width=32,token_width=16,heads=4,recipe.epochs=1,recipe.final_epochs=0,recipe.batch=8"
)


def ham(folder: Path, lesions: int) -> None:
    """Phantoms as HAM10000 is downloaded, from two places."""
    rows = write_cohort(folder, Hospital("A"), lesions, seed=3)
    (folder / "images").rename(folder / "HAM10000_images_part_1")
    (folder / "masks").rename(folder / "HAM10000_segmentations_lesion_tschandl")
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"]
    for number, row in enumerate(rows):
        stem, image = Path(row["file"]).stem, f"ISIC_{24306 + number:07d}"
        photo = next((folder / "HAM10000_images_part_1").glob(f"{stem}.*"))
        photo.rename(photo.with_stem(image))
        (folder / "HAM10000_segmentations_lesion_tschandl" / f"{stem}.png").rename(
            folder / "HAM10000_segmentations_lesion_tschandl" / f"{image}_segmentation.png"
        )
        cells = [row["lesion"], image, CODES[row["diagnosis"]], "histo", str(row["age_years"]), row["sex"], "back"]
        lines.append(",".join([*cells, ("rosendahl", "vidir_modern")[number % 2]]))
    (folder / "HAM10000_metadata.csv").write_text("\n".join(lines), encoding="utf-8")


def made(seeds: tuple[str, ...] = ()) -> dict[str, PlannedArtifact]:
    study = load_study("dual_network")
    return {work.name: work for work in ablate.planned(study, ablate.Config(preset="quick", seeds=seeds), "grouped")}


def test_the_baseline_joins_the_photo_and_the_metadata_of_its_own_seed() -> None:
    works = made(("0", "1"))
    assert works["dual_network-joined"].options["members"] == ("dual_network-photo", "dual_network-metadata")
    again = works["dual_network-joined-s1"].options["members"]
    assert again == ("dual_network-photo-s1", "dual_network-metadata-s1")
    order = list(works)
    assert all(order.index(member) < order.index("dual_network-joined-s1") for member in again)


@pytest.mark.parametrize("preset", ["", "atiq2025"])
def test_the_plain_network_learns_as_the_deep_one_does(preset: str) -> None:
    deep = model_config(load_model("deep_unet", "segment"), ("recipe.steps=7",), preset=preset)
    unet = load_model("unet", "segment")
    plain = model_config(unet, shared_settings(deep, unet.CONFIG))
    for name in unet.CONFIG.__dataclass_fields__:
        assert getattr(plain, name) == getattr(deep, name), name


@pytest.mark.slow
def test_the_whole_study_on_phantoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ham(tmp_path / "data" / "HAM10000", 60)
    code = cli.main(
        ["reproduce", "dual_network", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "w"), "--weights",
         "none", "--preset", "quick", f"--settings={SETTINGS}", "--folds", "1", "--bootstrap", "20", "--jobs", "1",
         "--segmenter-settings", "side_px=64,recipe.epochs=1,recipe.steps=2", "--arms", "metadata,photo,joined,full",
         "--device", "cpu", "--allow-untrained", "a dozen validation cases", "--quiet", "--json"]
    )  # fmt: skip
    answer = json.loads(capsys.readouterr().out)
    assert code == 0, answer
    outlined, parts, _ = (answer["parts"][name] for name in ("segmentation", "parts", "gradcam"))
    assert [command.split(" --")[2] for command in outlined["commands"][:2]] == [
        "against unet",
        "against otsu",
    ]  # the control once
    assert ["--control" in command for command in outlined["commands"][:2]] == [True, False]
    assert not outlined["missing"]
    assert not parts["missing"]
    about = json.loads((tmp_path / "w/artifacts/models/unet/model.json").read_text(encoding="utf-8"))
    assert about["settings"]["side_px"] == 64
    assert json.loads((tmp_path / "w/artifacts/models/deep_unet/manifest.json").read_text(encoding="utf-8"))
    page = (tmp_path / "w" / "reproduction" / "dual_network.md").read_text(encoding="utf-8")
    for words in ("IoU of deep_unet minus it", "the plain U-Net", "| centred ellipse |", "| rosendahl |"):
        assert words in page
    assert "by logistic regression" in page
