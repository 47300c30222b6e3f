"""External cohorts drawn by class, with metadata drawn from the training rows of PAD-UFES-20 and from no others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from source_tables import photo, table
from written_artifacts import run_stage, write_cases

from skinkit.artifacts.artifact import Artifact
from skinkit.data import drawn_cohorts, load_source, read_cases
from skinkit.errors import ConfigError, InputError
from skinkit.workspace import Cohort, Workspace, load_workspace

DX = {"nv": 40, "mel": 12, "bcc": 8, "akiec": 6, "bkl": 14, "df": 5, "vasc": 3}
SITES = ("face", "upper extremity", "trunk", "genital", "acral")
PAD = """
[cohorts.pad]
role = "development"
source = "pad-ufes-20"
path = "pad"
"""
HAM = """
[cohorts.ham]
role = "external"
source = "ham10000-pad"
path = "ham"
n = 40
"""


def pad_cases(n: int = 120) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    return [
        {
            "image_id": f"PAT_{i:03d}",
            "patient_id": f"PAT_{i // 2}",
            "diagnosis": ("nevus", "melanoma", "basal_cell_carcinoma")[i // 2 % 3],
            "region": str(rng.choice(["FACE", "FOREARM", "ARM", "CHEST", "BACK", "HAND"])),
            **dict.fromkeys(drawn_cohorts.ATTRIBUTES),
            "smoke": "True",
            "bleed": str(rng.choice(["True", "False"])),
            "diameter_1_mm": float(i),
            "diameter_2_mm": float(i),
        }
        for i in range(n)
    ]


def workspace_of(root: Path, ham: str = "") -> Workspace:
    lines = [
        f"HAM_{i // 2},ISIC_{i:07d},{dx},histo,{30 + i}.0,male,{SITES[i % len(SITES)]},x"
        for i, dx in enumerate(dx for dx, n in DX.items() for _ in range(n))
    ]
    table(root / "ham" / "HAM10000_metadata.csv", "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset", *lines)
    for i in range(0, sum(DX.values()), 8):
        photo(root / "ham" / "HAM10000_images_part_1" / f"ISIC_{i:07d}.jpg", i)
    (root / "pad").mkdir()
    (root / "skinkit.toml").write_text(PAD + HAM + ham, encoding="utf-8")
    workspace = load_workspace(root)
    rows = pad_cases()
    write_cases(workspace, "pad", rows)
    split = run_stage(workspace, "split")[0][0].table()
    outside = set(split.loc[split["part"] != "train", "case_id"])
    # What stands in rows that are not trained on must never be seen again.
    marked = [{**row, **({"smoke": "OUTSIDE", "region": "LIP"} if row["image_id"] in outside else {})} for row in rows]
    write_cases(workspace, "pad", marked)
    return workspace


def ingested(workspace: Workspace) -> tuple[pd.DataFrame, Artifact, str]:
    made, said = run_stage(workspace, "ingest", cohorts=["ham"])
    return made[0].table(), made[0], said


@pytest.mark.parametrize("joint", ["independent", "bootstrap"])
def test_cases_and_metadata_are_drawn_from_training_rows_alone(tmp_path: Path, joint: str) -> None:
    workspace = workspace_of(tmp_path, f'joint = "{joint}"\n')
    frame, artifact, said = ingested(workspace)
    # 80 of the five classes, half of each; the largest remainders go up.
    assert frame["diagnosis"].value_counts().to_dict() == {
        "nevus": 20, "benign_keratosis": 7, "melanoma": 6, "basal_cell_carcinoma": 4, "actinic_keratosis": 3,
    }  # fmt: skip
    assert set(frame["status"]) == {"ok", "pending"}
    assert set(frame["smoke"]) == {"True"}
    split = run_stage(workspace, "split")[0][0].table()
    training = {int(case[4:]) for case in split.loc[split["part"] == "train", "case_id"]}
    assert set(frame["diameter_1_mm"].astype(int)) <= training
    together = frame["diameter_1_mm"] == frame["diameter_2_mm"]
    assert together.all() if joint == "bootstrap" else not together.any() or together.mean() < 0.2
    assert (frame["age_years"] == [30 + int(name[5:]) for name in frame["image_id"]]).all()
    assert set(frame["sex"]) == {"male"}
    by_site = {str(site): set(of["region"].dropna()) for site, of in frame.groupby("site_source")}
    assert by_site["face"] == {"FACE"}
    assert by_site["genital"] == set()
    assert by_site["upper extremity"] <= {"FOREARM", "ARM"}
    assert by_site["trunk"] <= {"CHEST", "BACK"}
    assert by_site["acral"] == {"HAND"}
    assert frame["flags"].str.contains("metadata_drawn").all()
    drawn = frame.set_index("site_source")["drawn_attributes"]
    assert drawn["trunk"].str.endswith(",region").all()
    assert not drawn["face"].str.contains("region").any()
    told = artifact.info["drawn"]
    assert told["agreement"]["smoke"] == 1
    assert 0 < told["agreement"]["diameter_1_mm"] < 1
    assert told["training_rows"] == len(training)
    assert "40 cases drawn" in said


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    first = ingested(workspace)
    assert "up to date" in ingested(workspace)[2]
    (tmp_path / "skinkit.toml").write_text(PAD + HAM + "seed = 4\n", encoding="utf-8")
    other = ingested(load_workspace(tmp_path))[0]
    assert set(other["image_id"]) != set(first[0]["image_id"])
    (tmp_path / "skinkit.toml").write_text(PAD + HAM, encoding="utf-8")
    assert ingested(load_workspace(tmp_path))[1].identity == first[1].identity


def test_squamous_cell_carcinomas_come_from_the_archive_beside(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, 'scc = "add628"\n')
    table(
        tmp_path / "ham" / "ISIC_2019_Training_merged.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex,diagnosis",
        "ISIC_0070001,70,anterior torso,BCN_1,female,SCC",
        "ISIC_0070002,75,head/neck,BCN_2,male,SCC",
        "ISIC_0070003,75,head/neck,BCN_3,male,NV",
    )
    photo(tmp_path / "ham" / "ISIC_2019_Training_Input" / "ISIC_0070001.jpg", 999)
    frame = ingested(workspace)[0].set_index("image_id")
    assert frame["diagnosis"].value_counts()["squamous_cell_carcinoma"] == 2
    assert len(frame) == 42
    assert frame.loc["ISIC_0070001", "status"] == "ok"
    assert frame.loc["ISIC_0070001", "region"] == "CHEST"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("n = 0\n", "n = 0"),
        ('joint = "both"\n', "joint = 'both'"),
        ('metadata_from = "ham"\n', "metadata_from = 'ham'"),
        ('counts = "paper"\n', "unknown key 'counts'"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, line: str, told: str) -> None:
    workspace = workspace_of(tmp_path)
    text = (PAD + HAM).replace("n = 40\n", "") + line
    (tmp_path / "skinkit.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        ingested(load_workspace(tmp_path))
    assert told in caught.value.found
    (tmp_path / "skinkit.toml").write_text((PAD + HAM).replace('"external"', '"development"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="role 'development'"):
        ingested(load_workspace(tmp_path))
    assert workspace.cohorts


def test_no_more_than_the_archive_has(tmp_path: Path) -> None:
    workspace_of(tmp_path)
    (tmp_path / "skinkit.toml").write_text((PAD + HAM).replace("40", "100"), encoding="utf-8")
    with pytest.raises(InputError) as error:
        ingested(load_workspace(tmp_path))
    assert error.value.found.endswith("the archive has 6")


def test_sizes_as_printed_and_in_proportion() -> None:
    isic = load_source("isic-2019-pad").draw
    ham = load_source("ham10000-pad").draw
    assert isic is not None
    assert ham is not None
    present = {"actinic_keratosis": 327, "basal_cell_carcinoma": 514, "melanoma": 1113, "nevus": 6705,
               "benign_keratosis": 1099, "dermatofibroma": 115, "vascular_lesion": 142}  # fmt: skip
    assert drawn_cohorts.sizes(present, ham, 2000, "paper") == {
        "actinic_keratosis": 67, "basal_cell_carcinoma": 106, "melanoma": 228, "nevus": 1374, "benign_keratosis": 225,
    }  # fmt: skip
    assert drawn_cohorts.sizes({}, isic, 5000, "paper") == isic.published
    whole = {"actinic_keratosis": 867, "basal_cell_carcinoma": 3323, "melanoma": 4522, "nevus": 12875,
             "squamous_cell_carcinoma": 628, "benign_keratosis": 2624}  # fmt: skip
    assert drawn_cohorts.sizes(whole, isic, 5000, "proportional") == {
        "actinic_keratosis": 175, "basal_cell_carcinoma": 669, "melanoma": 910, "nevus": 2592,
        "squamous_cell_carcinoma": 126, "benign_keratosis": 528,
    }  # fmt: skip


@pytest.mark.real
def test_both_sets_on_the_real_tables(real_data: Path) -> None:
    pad = pd.read_csv(real_data / "pad" / "metadata.csv").rename(
        columns={"fitspatrick": "fitzpatrick", "diameter_1": "diameter_1_mm", "diameter_2": "diameter_2_mm"}
    )
    for name, n in (("ham10000-pad", 2000), ("isic-2019-pad", 5000)):
        rows = read_cases(Cohort("x", "external", name, real_data / "isic" / "tables")).rows
        draw = load_source(name).draw
        assert draw is not None
        settings = drawn_cohorts.DrawSettings(n, 0, "independent", "paper", "pad", "grouped")
        chosen = drawn_cohorts.sampled(rows, draw, settings, np.random.default_rng(0))
        made = drawn_cohorts.with_metadata(chosen, pad, "independent", np.random.default_rng(0))
        assert len(made) == n
        assert Counter(row["diagnosis"] for row in made) == drawn_cohorts.sizes(
            Counter(str(row["diagnosis"]) for row in rows), draw, n, "paper"
        )
        fits = drawn_cohorts.agreement(made, pad)
        assert min(fits.values()) > 0.9
        known = [
            row
            for row in made
            if row["site_source"] and row["site_source"] not in ("unknown", "genital", "oral/genital")
        ]
        assert all(row["region"] for row in known)
