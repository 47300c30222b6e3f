"""Splits as published: by image, the same draws, and what is also in an external cohort left out or told loudly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
from written_artifacts import Said, make_workspace, run_stage, write, write_cases

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.audit import leakage
from skinkit.data import read_cases
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.pipeline import Pipeline
from skinkit.studies.dermacalibra import metablock_folders
from skinkit.studies.wang2024 import paper_folders
from skinkit.taxonomy import CLASS_SETS
from skinkit.workspace import Cohort, Ref, Workspace, load_workspace

CODES = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
DIAGNOSES = ("nevus", "melanoma", "basal_cell_carcinoma")
TREES = ("rounds=5", "min_leaf=3")


def isic(n: int = 90, first: int = 24_306) -> list[dict[str, Any]]:
    """Images of one archive: every third lesion has two of them."""
    return [
        {
            "image_id": f"ISIC_{first + i:07d}",
            "patient_id": None,
            "lesion_id": f"HAM_{first + i - (i % 3 == 2):07d}",
            "group_id": f"isic:lesion:HAM_{first + i - (i % 3 == 2):07d}",
            "diagnosis": DIAGNOSES[(i - (i % 3 == 2)) % 3 % len(DIAGNOSES)],
        }
        for i in range(n)
    ]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", {"isic2019": "development", "isic2018": "external"}, classes="wang8")


def split(workspace: Workspace, **given: Any) -> tuple[pd.DataFrame, Artifact, str]:
    made, said = run_stage(workspace, "split", **given)
    return made[0].table(), made[0], said


# ------------------------------------------------------------------------------------------ beside external cohorts


def test_what_is_also_in_an_external_cohort_is_left_out_and_listed(workspace: Workspace) -> None:
    rows = isic()
    write_cases(workspace, "isic2019", rows)
    alone, before, _ = split(workspace)
    outside = [
        rows[0],  # the same image; rows[0] has a lesion of its own
        {**rows[4], "image_id": "ISIC_9000001"},  # another image of the lesion of rows[4] and rows[5]
        {**rows[9], "image_id": rows[9]["image_id"] + "_downsampled", "lesion_id": None, "group_id": "isic:image:x"},
        {"image_id": "ISIC_9000002", "patient_id": None, "diagnosis": "nevus", "group_id": "isic:image:ISIC_9000002"},
        # The same name in another archive is another image.
        {**rows[12], "lesion_id": None, "group_id": f"other:image:{rows[12]['image_id']}"},
    ]
    write_cases(workspace, "isic2018", outside)
    frame, artifact, said = split(workspace)
    gone = {rows[i]["image_id"] for i in (0, 4, 5, 9)}
    assert set(alone["image_id"]) - set(frame["image_id"]) == gone
    assert artifact.info["excluded"] == {"in_an_external_cohort": 4}
    assert "4 development cases are also in isic2018 and are left out" in said
    listed = pd.read_csv(artifact.path / "external_overlap.csv")
    assert set(listed["case_id"]) == gone
    assert set(listed["kind"]) == {"lesion", "image"}
    assert artifact.identity != before.identity


def test_an_external_cohort_that_shares_nothing_leaves_the_split_as_it_is(workspace: Workspace) -> None:
    write_cases(workspace, "isic2019", isic())
    _, before, said = split(workspace, folds=3)
    assert "isic2018 not ingested yet" in said
    write_cases(workspace, "isic2018", isic(30, first=34_524))
    _, after, said = split(workspace, folds=3)
    assert after.identity == before.identity
    assert "up to date" in said
    assert after.info["external_overlap"] is None


@pytest.mark.real
def test_all_of_ham10000_is_inside_isic_2019(real_data: Path) -> None:
    sides = [
        pd.DataFrame(read_cases(Cohort(name, role, name, real_data / "isic" / "tables")).rows).assign(cohort=name)
        for name, role in (("isic-2019", "development"), ("ham10000", "external"))
    ]
    found = leakage.check(*leakage.sharing(*sides), near_distance_bits=-1)
    assert len(sides[0]) == 25_331
    assert found.counts["lesion"] == found.cases == 10_015


# ------------------------------------------------------------------------------------------------------ paper


def test_paper_divides_by_image_a_quarter_for_tuning_and_holds_nothing_out(workspace: Workspace) -> None:
    rows = isic()
    write_cases(workspace, "isic2019", rows)
    write_cases(workspace, "isic2018", rows[:21])
    console = Said()
    with pytest.raises(RefusedError, match=r"share \d+ cases"):
        Pipeline(workspace, console, upstream=False).make("split", {"protocol": "paper"})
    assert "ISIC 2019 holds HAM10000, the images of ISIC 2018" in console.text.getvalue()
    frame, artifact, said = split(workspace, protocol="paper", allow_leakage="to repeat Wang 2024")
    assert frame["part"].value_counts().to_dict() == {"train": 67, "validation": 23}
    shares = (frame["part"] == "validation").groupby(frame["class"]).mean()
    assert shares.between(0.2, 0.3).all()
    assert len(frame) == len(rows)  # nothing is removed
    assert "21 development cases are also in isic2018 and stay in" in said
    assert "leak between the parts, allowed because: to repeat Wang 2024" in said
    assert "no held_out row" not in said
    assert len(pd.read_csv(artifact.path / "external_overlap.csv")) == 21
    assert artifact.info["allow_leakage"] == "to repeat Wang 2024"
    assert artifact.info["leakage"]["counts"]["lesion"] > 0


def test_paper_is_seeded_and_refuses_what_the_paper_has_not(workspace: Workspace) -> None:
    write_cases(workspace, "isic2019", isic())
    parts = [
        split(workspace, protocol="paper", seed=seed, allow_leakage="x", name="paper")[0]["part"].tolist()
        for seed in (1, 2, 1)
    ]
    assert parts[0] == parts[2] != parts[1]
    for given in ({"folds": 5}, {"over": "masks"}):
        with pytest.raises(ConfigError) as error:
            split(workspace, protocol="paper", **given)
        assert "--protocol paper" in error.value.found


def test_tuning_rows_are_a_quarter_of_every_class() -> None:
    labels = ["NV"] * 800 + ["MM"] * 80 + ["SCC"] * 8
    chosen = paper_folders(labels, seed=3)["folder"] == 1
    assert [int(chosen[a:b].sum()) for a, b in ((0, 800), (800, 880), (880, 888))] == [200, 20, 2]


# -------------------------------------------------------------------------------------------------- metablock


def pad_table(folder: Path, n: int = 180) -> pd.DataFrame:
    """A small table in the shape of PAD-UFES-20, in an order of its own."""
    rng = np.random.default_rng(5)
    rows = [
        {
            "patient_id": f"PAT_{rng.integers(n // 2)}",
            "lesion_id": str(rng.integers(1000)),
            "diagnostic": CODES[int(rng.integers(len(CODES)))],
            "region": "FACE",
        }
        for _ in range(n)
    ]
    frame = pd.DataFrame(rows)
    frame["img_id"] = [
        f"{p}_{le}_{i}.png" for i, (p, le) in enumerate(zip(frame["patient_id"], frame["lesion_id"], strict=True))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "metadata.csv", index=False)
    return frame


def pad_workspace(folder: Path) -> tuple[Workspace, pd.DataFrame]:
    folder.mkdir()
    table = pad_table(folder / "pad")
    (folder / "skinkit.toml").write_text('[cohorts.pad]\nrole = "development"\nsource = "pad-ufes-20"\npath = "pad"\n')
    workspace = load_workspace(folder)
    names = {code: diagnoses[0] for code, diagnoses in CLASS_SETS["pad6"][0].items()}
    rows = [
        {
            "image_id": row.img_id.removesuffix(".png"),
            "patient_id": row.patient_id,
            "lesion_id": f"{row.patient_id}|{row.lesion_id}",
            "diagnosis": names[row.diagnostic],
            # Some photos have not arrived.
            **({"status": "pending", "reason": "image_absent"} if i % 4 == 0 else {}),
        }
        for i, row in enumerate(table.itertuples())
    ]
    write_cases(workspace, "pad", sorted(rows, key=lambda row: str(row["image_id"])))
    return workspace, table


@pytest.mark.parametrize("folds", [1, 5])
def test_metablock_draws_over_the_whole_table_whatever_photos_are_here(tmp_path: Path, folds: int) -> None:
    workspace, table = pad_workspace(tmp_path / "ws")
    with pytest.raises(RefusedError) as error:
        split(workspace, protocol="metablock", folds=folds)
    assert "patient" in error.value.found
    frame, artifact, said = split(workspace, protocol="metablock", folds=folds, allow_leakage="as published")
    expected = metablock_folders(table["diagnostic"].tolist())
    expected["case_id"] = table["img_id"].str.removesuffix(".png")
    here = expected[np.arange(len(table)) % 4 != 0].set_index("case_id")
    for fold in range(folds):
        rows = frame[frame["fold"] == fold].set_index("case_id")
        assert set(rows.index) == set(here.index)
        assert set(rows.index[rows["part"] == "held_out"]) == set(here.index[here["folder"] == 0])
        assert set(rows.index[rows["part"] == "validation"]) == set(here.index[here["folder"] == fold + 1])
        halves = rows["half"].dropna()
        assert halves.to_dict() == here["half"].dropna().to_dict()
    assert "the test set is 30 of 180 rows" in said
    assert artifact.info["protocol"] == "metablock"
    with pytest.raises(ConfigError, match="--folds 3"):
        split(workspace, protocol="metablock", folds=3)


def test_metablock_is_for_pad_alone(workspace: Workspace) -> None:
    write_cases(workspace, "isic2019", isic())
    with pytest.raises(ConfigError) as error:
        split(workspace, protocol="metablock")
    assert "isic2019" in error.value.found


@pytest.mark.real
def test_the_folders_of_metablock_are_those_of_the_publications(real_data: Path) -> None:
    table = pd.read_csv(real_data / "pad" / "metadata.csv")
    table = table.join(metablock_folders(table["diagnostic"].tolist()))
    test, rest = table[table["folder"] == 0], table[table["folder"] > 0]
    assert test["diagnostic"].value_counts().to_dict() == {
        "BCC": 141, "ACK": 122, "NEV": 40, "SEK": 39, "SCC": 32, "MEL": 9,
    }  # fmt: skip
    assert rest["folder"].value_counts().to_dict() == dict.fromkeys(range(1, 6), 383)
    assert int(test["patient_id"].isin(rest["patient_id"]).sum()) == 212
    pairs = [pd.MultiIndex.from_frame(side[["patient_id", "lesion_id"]]) for side in (test, rest)]
    assert int(pairs[0].isin(pairs[1]).sum()) == 112
    regions = test.groupby("half")["region"].value_counts(normalize=True).unstack(fill_value=0) * 100
    assert test["half"].value_counts().to_dict() == {"B": 192, "A": 191}
    told = {
        "A": {"NECK": 4.19, "CHEST": 16.75, "ARM": 5.76, "FOOT": 0},
        "B": {"NECK": 2.60, "CHEST": 14.06, "ARM": 10.94},
    }
    for half, shares in told.items():
        assert {name: round(float(regions.loc[half, name]), 2) for name in shares} == shares
    patients = test.groupby("patient_id")["half"].nunique()
    assert int((patients > 1).sum()) == 20


# ---------------------------------------------------------------------------------------------------- derm7pt


def derm7pt(folder: Path, n: int = 30) -> Workspace:
    """An archive in derm7pt's layout, with its index files, and its cases: two photos each."""
    meta = folder / "derm" / "release_v0" / "meta"
    meta.mkdir(parents=True)
    kinds = {"clark nevus": "nevus", "melanoma (in situ)": "melanoma", "vascular lesion": "vascular_lesion"}
    numbers = [1000 - i for i in range(n)]  # the files list rows of the table, not case numbers
    lines = [f"{number},{list(kinds)[i % 3]},{number}c.jpg,{number}d.jpg" for i, number in enumerate(numbers)]
    (meta / "meta.csv").write_text("case_num,diagnosis,clinic,derm\n" + "\n".join(lines), encoding="utf-8")
    for name, rows in (("train", range(12)), ("valid", range(12, 18)), ("test", range(18, n - 1))):
        (meta / f"{name}_indexes.csv").write_text("indexes\n" + "\n".join(map(str, rows)), encoding="utf-8")
    (folder / "skinkit.toml").write_text(
        '[workspace]\nclasses = "derm7pt5"\n[cohorts.derm]\nrole = "development"\nsource = "derm7pt"\npath = "derm"\n'
    )
    workspace = load_workspace(folder)
    rows = [
        {
            "image_id": f"{number}-{view}",
            "case_id": str(number),
            "lesion_id": str(number),
            "view": view,
            "diagnosis": list(kinds.values())[i % 3],
        }
        for i, number in enumerate(numbers)
        for view in ("clinical", "dermoscopic")
    ]
    write_cases(workspace, "derm", sorted(rows, key=lambda row: str(row["image_id"])))
    return workspace


def test_derm7pt_is_split_as_its_files_list_the_rows_of_its_table(tmp_path: Path) -> None:
    workspace = derm7pt(tmp_path)
    frame, _, said = split(workspace, protocol="derm7pt")
    part = frame.set_index("case_id")["part"]
    assert part["1000"] == part["989"] == "train"
    assert part["988"] == "validation"
    assert part["982"] == part["972"] == "held_out"
    assert "971" not in part.index  # in none of the files
    assert part.value_counts().to_dict() == {"train": 12, "held_out": 11, "validation": 6}
    assert "the test set is 11 of 29 rows" in said


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("test", "indexes\n3\n", "row 3"),  # also a training row
        ("test", "indexes\n30\n", "row 30"),
        ("valid", "indexes\nfirst\n", "first"),
        ("valid", None, "valid_indexes.csv"),
    ],
)
def test_index_files_that_do_not_fit_are_refused(name: str, content: str | None, found: str, tmp_path: Path) -> None:
    workspace = derm7pt(tmp_path)
    file = tmp_path / "derm" / "release_v0" / "meta" / f"{name}_indexes.csv"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(InputError, match=found):
        split(workspace, protocol="derm7pt")


# ------------------------------------------------------------------------------------------- training on them


def test_a_model_of_the_paper_protocol_is_scored_outside(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "ws", patients=12)
    split(workspace, protocol="paper", allow_leakage="to repeat Wang 2024")
    model, said = run_stage(workspace, "train", settings=TREES)
    assert model[0].table()["n_held_out"].tolist() == [0]
    assert model[0].info["leakage_allowed"] == "to repeat Wang 2024"
    predicted, said = run_stage(workspace, "predict")
    rows = {artifact.path.parent.parent.name: len(artifact.table()) for artifact in predicted}
    assert rows["clinic"] == 0  # every case was trained or tuned on
    assert rows["jinan"] > 0
    scored, _ = run_stage(workspace, "evaluate", cohorts=["jinan"], bootstrap=5)
    assert scored[0].info["leakage"]["cases"] == 0
    with pytest.raises(InputError, match=r"no (predicted )?case of clinic"):
        run_stage(workspace, "evaluate", cohorts=["clinic"], bootstrap=5)
    assert "24 development cases are not predicted: no fold held them out" in said


def test_halves_of_the_test_set_are_subgroups(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "ws")
    made = run_stage(workspace, "split")[0][0]
    table = made.table()
    halved = table.assign(half=["A" if i % 2 else "B" for i in range(len(table))])
    halved["half"] = halved["half"].where(halved["part"] == "held_out", None)
    write(workspace, Ref("split", name="grouped"), halved, info=made.info)
    run_stage(workspace, "train", settings=TREES)
    run_stage(workspace, "predict", cohorts=["clinic"])
    metrics = run_stage(workspace, "evaluate", cohorts=["clinic"], bootstrap=5, minimum=1)[0][0].table()
    n = metrics[(metrics["metric"] == "accuracy") & (metrics["class"] == "all")].set_index("subgroup")["n"]
    assert n["half=A"] + n["half=B"] == n["all"] == len(table[table["part"] == "held_out"].drop_duplicates("case_id"))


def test_cases_left_out_of_the_split_are_not_scored_as_development_cases(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "ws")
    cases = open_artifact(workspace.path(Ref("cases", "clinic"))).table()
    # The first lesion of the clinic, two photos of it, is in Jinan's set as well.
    outside = open_artifact(workspace.path(Ref("cases", "jinan"))).table()
    outside.loc[0, ["group_id", "patient_id"]] = cases.loc[0, ["group_id", "patient_id"]].to_numpy()
    write(workspace, Ref("cases", "jinan"), outside)
    _, artifact, _ = split(workspace, folds=2, validation=0.34)
    gone = pd.read_csv(artifact.path / "left_out.csv")
    assert gone["case_id"].tolist() == cases["case_id"].tolist()[:2]
    assert set(gone["reason"]) == {"in_an_external_cohort"}
    run_stage(workspace, "train", settings=TREES)
    predicted = run_stage(workspace, "predict", cohorts=["clinic"])[0][0].table()
    assert set(gone["case_id"]) <= set(predicted["case_id"])
    scored = run_stage(workspace, "evaluate", cohorts=["clinic"], bootstrap=5)[0][0]
    assert scored.info["excluded"] == {"left_out_of_the_split": 2}
