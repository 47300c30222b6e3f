"""Every source on a tiny archive in the shape it is downloaded in; hospitals by their cohort.toml."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import dicom
from source_tables import cohort, listed, photo, table

from skinkit.console import Console
from skinkit.data import find_files, load_source, read_cases, sources
from skinkit.data.cases import Listing
from skinkit.data.draft import write_draft
from skinkit.errors import ConfigError, InputError, RefusedError, SkinkitError
from skinkit.schemas import CASES
from skinkit.taxonomy import REGION_SITES


def by_id(listing: Listing) -> dict[str, dict[str, Any]]:
    return {row["image_id"]: row for row in listing.rows}


def outcomes(listing: Listing) -> dict[str, tuple[str, str | None]]:
    return {row["image_id"]: (row["status"], row["reason"]) for row in listing.rows}


# ------------------------------------------------------------------------------------------------------ registry


def test_every_source_can_be_named_and_says_what_it_is() -> None:
    found = sources()
    assert set(found) == {
        "pad-ufes-20", "isic-2016", "isic-2017", "isic-2018-task3", "isic-2019", "isic-2020", "ham10000", "isic-seg",
        "ddi", "fitzpatrick17k", "isic-archive", "capture", "derm7pt", "folder", "ham10000-pad", "isic-2019-pad",
    }  # fmt: skip
    for name, title in found.items():
        source = load_source(name)
        assert source.name == name
        assert title
        if name not in ("folder", "capture"):  # a hospital's own
            assert source.citation
            assert source.licence
            assert source.constants.get("modality") or "modality" in source.columns


def test_unknown_source_suggests_the_closest() -> None:
    with pytest.raises(ConfigError) as caught:
        load_source("pad_ufes20")
    assert "did you mean 'pad-ufes-20'" in caught.value.expected


def test_unknown_option_and_part(tmp_path: Path) -> None:
    for options, told in (({"mask": "x"}, "did you mean 'masks'"), ({"part": "trainin"}, "no part")):
        with pytest.raises(ConfigError) as caught:
            listed(tmp_path, "pad-ufes-20", **options)
        assert told in caught.value.expected


# ------------------------------------------------------------------------------------------------ public archives

PAD_HEADER = (
    "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,skin_cancer_history,"
    "cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,diameter_1,diameter_2,diagnostic,itch,grew,hurt,"
    "changed,bleed,elevation,img_id,biopsed"
)
PAD_FULL = (
    "PAT_46,881,False,True,POMERANIA,BRAZIL,55,False,FEMALE,True,True,True,False,3.0,NECK,6.0,5.0,BCC,True,UNK,False,"
    "True,True,True,PAT_46_881_939.png,True"
)
PAD_EMPTY = "PAT_9,881,,,,,8,,,,,,,,ARM,,,NEV,False,False,False,False,False,UNK,PAT_9_881_530.png,False"


def pad_archive(root: Path) -> Path:
    table(root / "metadata.csv", PAD_HEADER, PAD_FULL, PAD_EMPTY)
    photo(root / "images" / "imgs_part_1" / "imgs_part_1" / "PAT_46_881_939.png", 1)
    photo(root / "images" / "imgs_part_3" / "PAT_9_881_530.png", 2)
    return root


def test_pad_as_downloaded(tmp_path: Path) -> None:
    listing = listed(pad_archive(tmp_path), "pad-ufes-20")
    rows = by_id(listing)
    full, empty = rows["PAT_46_881_939"], rows["PAT_9_881_530"]
    expected = {
        "patient_id": "PAT_46", "lesion_id": "PAT_46|881", "group_id": "pad-ufes-20:patient:PAT_46", "age_years": 55.0,
        "sex": "female", "site": "head/neck", "site_source": "NECK", "region": "NECK", "fitzpatrick": 3.0,
        "smoke": "False",
        "drink": "True", "background_father": "POMERANIA", "diameter_1_mm": 6.0, "grew": "UNK", "itch": "True",
        "diagnosis": "basal_cell_carcinoma", "diagnosis_source": "BCC", "confirmed_by": "histopathology",
        "modality": "clinical", "status": "ok", "flags": None, "case_id": "PAT_46_881_939",
        "image_path": "images/imgs_part_1/imgs_part_1/PAT_46_881_939.png",
    }  # fmt: skip
    assert {name: full[name] for name in expected} == expected
    assert empty["lesion_id"] == "PAT_9|881"  # one lesion number, two patients
    assert empty["confirmed_by"] == "clinical"
    assert all(empty[name] is None for name in ("smoke", "sex", "fitzpatrick", "background_father", "diameter_1_mm"))
    assert not {"biopsed", "diameter_1", "fitspatrick"} & set(full)
    assert listing.unmapped == {}


def test_pad_with_jpeg_copies_masks_and_missing_images(tmp_path: Path) -> None:
    table(tmp_path / "metadata.csv", PAD_HEADER, PAD_FULL, PAD_EMPTY)
    photo(tmp_path / "images" / "PAT_46_881_939.jpg")
    photo(tmp_path / "masks" / "PAT_46_881_939.png")
    photo(tmp_path / "masks_2023" / "PAT_46_881_939.png")
    stream = io.StringIO()
    listing = read_cases(cohort(tmp_path, "pad-ufes-20"), Console(stream=stream))
    assert "1 of 2 images found, 1 truth masks" in stream.getvalue()
    assert "waiting for their image (looked for next time): 1 rows" in stream.getvalue()
    assert by_id(listing)["PAT_46_881_939"]["truth_mask_path"] == "masks/PAT_46_881_939.png"
    assert outcomes(listing)["PAT_9_881_530"] == ("pending", "image_absent")
    other = listed(tmp_path, "pad-ufes-20", masks="masks_2023")
    assert by_id(other)["PAT_46_881_939"]["truth_mask_path"] == "masks_2023/PAT_46_881_939.png"
    none = listed(tmp_path, "pad-ufes-20", masks="")
    assert by_id(none)["PAT_46_881_939"]["truth_mask_path"] is None


def test_an_archive_that_was_not_unpacked_is_told(tmp_path: Path) -> None:
    table(tmp_path / "metadata.csv", PAD_HEADER, PAD_FULL)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "imgs_part_1.zip").write_bytes(b"PK")
    stream = io.StringIO()
    read_cases(cohort(tmp_path, "pad-ufes-20"), Console(stream=stream))
    assert "imgs_part_1.zip" in stream.getvalue()


def test_isic_2019_as_downloaded_and_merged(tmp_path: Path) -> None:
    archive, merged = tmp_path / "archive", tmp_path / "merged"
    meta = "image,age_approx,anatom_site_general,lesion_id,sex"
    labels = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    table(
        archive / "ISIC_2019_Training_Metadata.csv",
        meta,
        "ISIC_0000000,55.0,anterior torso,,female",
        "ISIC_0000002_downsampled,30.0,palms/soles,BCN_1,male",
        "ISIC_0000003,,,HAM_7,",
    )
    table(
        archive / "ISIC_2019_Training_GroundTruth.csv",
        labels,
        "ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
        "ISIC_0000002_downsampled,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0",
        "ISIC_0000003,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0",
    )
    for name in ("ISIC_0000000", "ISIC_0000002_downsampled", "ISIC_0000003"):
        photo(archive / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input" / f"{name}.jpg")
    rows = by_id(listed(archive, "isic-2019"))
    assert {i: r["diagnosis"] for i, r in rows.items()} == {
        "ISIC_0000000": "nevus", "ISIC_0000002_downsampled": "squamous_cell_carcinoma", "ISIC_0000003": None,
    }  # fmt: skip
    assert rows["ISIC_0000000"]["site"] == "torso"
    assert rows["ISIC_0000000"]["group_id"] == "isic:image:ISIC_0000000"
    assert rows["ISIC_0000003"]["group_id"] == "isic:lesion:HAM_7"
    assert all(row["status"] == "ok" and row["modality"] == "dermoscopic" for row in rows.values())
    table(merged / "ISIC_2019_Training_merged.csv", meta + ",diagnosis", "ISIC_0000000,55.0,anterior torso,,female,AK")
    photo(merged / "images" / "ISIC_0000000.jpg")
    assert by_id(listed(merged, "isic-2019"))["ISIC_0000000"]["diagnosis"] == "actinic_keratosis"
    table(archive / "ISIC_2019_Test_Metadata.csv", meta, "ISIC_0034321,40.0,,,male")
    table(archive / "ISIC_2019_Test_GroundTruth.csv", labels, "ISIC_0034321,1.0,0,0,0,0,0,0,0,0")
    photo(archive / "ISIC_2019_Test_Input" / "ISIC_0034321.jpg")
    with pytest.raises(ConfigError) as error:
        listed(archive, "isic-2019")
    assert "several parts" in error.value.found
    assert outcomes(listed(archive, "isic-2019", part="test")) == {"ISIC_0034321": ("ok", None)}


def test_two_labels_at_once_are_an_error(tmp_path: Path) -> None:
    table(tmp_path / "labels.csv", "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC", "a,1,1,0,0,0,0,0")
    with pytest.raises(InputError) as error:
        listed(tmp_path, "isic-2018-task3")
    assert "row 2" in error.value.found
    assert "MEL and NV" in error.value.found


@pytest.mark.parametrize(
    "name", ["HAM10000_metadata", "HAM10000_metadata.csv", "HAM10000_metadata.tab", "metadata.csv"]
)
def test_ham10000_as_downloaded(tmp_path: Path, name: str) -> None:
    lines = [
        "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset",
        "HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp,vidir_modern",
        "HAM_0000118,ISIC_0025030,akiec,follow_up,,unknown,unknown,vidir_modern",
    ]
    sign = "\t" if name.endswith(".tab") else ","
    table(tmp_path / name, *(line.replace(",", sign) for line in lines))
    photo(tmp_path / "HAM10000_images_part_1" / "ISIC_0027419.jpg", 1)
    photo(tmp_path / "HAM10000_images_part_2" / "ISIC_0025030.jpg", 2)
    folder = tmp_path / "HAM10000_segmentations_lesion_tschandl"
    photo(folder / "ISIC_0025030_segmentation.png")
    rows = by_id(listed(tmp_path, "ham10000"))
    first, second = rows["ISIC_0027419"], rows["ISIC_0025030"]
    assert (first["diagnosis"], first["confirmed_by"], first["site"]) == (
        "benign_keratosis",
        "histopathology",
        "head/neck",
    )
    assert (second["diagnosis"], second["confirmed_by"], second["site"]) == ("actinic_keratosis", "follow_up", None)
    assert first["group_id"] == second["group_id"] == "isic:lesion:HAM_0000118"
    assert (second["age_years"], second["sex"], second["flags"]) == (None, None, None)
    assert first["truth_mask_path"] is None
    assert second["truth_mask_path"] == f"{folder.name}/ISIC_0025030_segmentation.png"
    assert len(rows) == 2


def test_isic_2018_task3_training_and_labels_alone(tmp_path: Path) -> None:
    labels = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
    train, test = tmp_path / "train", tmp_path / "test"
    base = "ISIC2018_Task3_Training"
    table(train / f"{base}_GroundTruth" / f"{base}_GroundTruth.csv", labels, "ISIC_0024306,0.0,1.0,0,0,0,0,0")
    table(
        train / f"{base}_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type",
        "ISIC_0024306,HAM_0000550,serial imaging showing no change",
    )
    photo(train / f"{base}_Input" / "ISIC_0024306.jpg")
    row = by_id(listed(train, "isic-2018-task3"))["ISIC_0024306"]
    assert (row["diagnosis"], row["lesion_id"], row["confirmed_by"]) == ("nevus", "HAM_0000550", "follow_up")
    table(
        test / "labels.csv", "image,dx," + labels[6:], "ISIC_0034526,BKL,0,0,0,0,1,0,0", "ISIC_0034527,NV,0,1,0,0,0,0,0"
    )
    photo(test / "images" / "ISIC_0034526.jpg")
    listing = listed(test, "isic-2018-task3")
    assert by_id(listing)["ISIC_0034526"]["diagnosis"] == "benign_keratosis"
    assert outcomes(listing)["ISIC_0034527"] == ("pending", "image_absent")


def test_the_test_part_of_isic_2018_with_patient_data(tmp_path: Path) -> None:
    dataverse, export = tmp_path / "dataverse", tmp_path / "export"
    base = "ISIC2018_Task3_Test_GroundTruth"
    table(
        dataverse / f"{base}.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset",
        "HAMTEST_0000000,ISIC_0034524,nv,follow_up,40.0,female,back,vidir_molemax",
    )
    row = by_id(listed(dataverse, "isic-2018-task3"))["ISIC_0034524"]
    told = ("diagnosis", "age_years", "sex", "site", "lesion_id", "confirmed_by")
    assert [row[n] for n in told] == ["nevus", 40.0, "female", "torso", "HAMTEST_0000000", "follow_up"]
    table(export / base / f"{base}.csv", "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC", "ISIC_0034524,0,0,0,0,1,0,0")
    table(
        export / "metadata.csv",
        "isic_id,age_approx,anatom_site_general,diagnosis_1,diagnosis_3,sex",
        "ISIC_0034524,40,posterior torso,Benign,Solar lentigo,female",
    )
    row = by_id(listed(export, "isic-2018-task3"))["ISIC_0034524"]
    assert [row[n] for n in told[:4]] == ["benign_keratosis", 40.0, "female", "torso"]


def test_isic_2016_with_and_without_the_export_of_the_archive(tmp_path: Path) -> None:
    base = tmp_path / "ISBI2016_ISIC_Part3"
    names = [f"ISIC_000000{n}" for n in range(4)]
    table(
        Path(f"{base}_Training_GroundTruth.csv"), f"{names[0]},benign", f"{names[1]},malignant", f"{names[2]},malignant"
    )
    for n, name in enumerate(names[:3]):
        photo(tmp_path / "ISBI2016_ISIC_Part3_Training_Data" / f"{name}.jpg", n)
    photo(tmp_path / "ISBI2016_ISIC_Part1_Training_GroundTruth" / f"{names[0]}_Segmentation.png")
    rows = by_id(listed(tmp_path, "isic-2016"))
    assert [rows[name]["diagnosis"] for name in names[:3]] == [None, "melanoma", "melanoma"]
    assert rows[names[0]]["truth_mask_path"] == f"ISBI2016_ISIC_Part1_Training_GroundTruth/{names[0]}_Segmentation.png"
    assert all(row["age_years"] is row["sex"] is row["site"] is None for row in rows.values())
    table(
        tmp_path / "metadata.csv",
        "isic_id,age_approx,anatom_site_general,benign_malignant,diagnosis,diagnosis_confirm_type,sex",
        f"{names[0]},55,anterior torso,benign,seborrheic keratosis,histopathology,female",
        f"{names[2]},70,head/neck,malignant,basal cell carcinoma,histopathology,male",
        f"{names[3]},30,,benign,nevus,,male",
    )
    listing = listed(tmp_path, "isic-2016")
    rows = by_id(listing)
    # The export says which malignant lesion is no melanoma; an image of another part that it names is no case here.
    assert {name: row["diagnosis"] for name, row in rows.items()} == {
        names[0]: "seborrheic_keratosis", names[1]: "melanoma", names[2]: "basal_cell_carcinoma",
    }  # fmt: skip
    first = rows[names[0]]
    assert [first[n] for n in ("age_years", "sex", "site", "confirmed_by")] == [55, "female", "torso", "histopathology"]
    assert listing.unmapped == {}
    table(Path(f"{base}_Test_GroundTruth.csv"), f"{names[0]},0.0", f"{names[3]},1.0")
    photo(tmp_path / "ISBI2016_ISIC_Part3_Test_Data" / f"{names[3]}.jpg")
    test = by_id(listed(tmp_path, "isic-2016", part="test"))
    assert {name: row["diagnosis"] for name, row in test.items()} == {
        names[0]: "seborrheic_keratosis", names[3]: "nevus",
    }  # fmt: skip


def test_isic_2017_as_downloaded_and_with_the_export(tmp_path: Path) -> None:
    data = tmp_path / "ISIC-2017_Test_v2_Data"
    for number in range(3):
        photo(data / f"ISIC_001208{number}.jpg", number)
        photo(data / f"ISIC_001208{number}_superpixels.png")
    table(
        tmp_path / "ISIC-2017_Test_v2_Part3_GroundTruth.csv",
        "image_id,melanoma,seborrheic_keratosis",
        *(f"ISIC_001208{n},{float(n == 1)},{float(n == 2)}" for n in range(3)),
    )
    table(data / "ISIC-2017_Test_v2_Data_metadata.csv", "image_id,age_approximate,sex", "ISIC_0012081,60,male")
    rows = by_id(listed(tmp_path, "isic-2017"))
    assert [rows[f"ISIC_001208{n}"]["diagnosis"] for n in range(3)] == ["nevus", "melanoma", "seborrheic_keratosis"]
    assert [rows["ISIC_0012081"][n] for n in ("age_years", "sex", "site")] == [60, "male", None]
    assert len(rows) == 3
    table(
        tmp_path / "metadata.csv",
        "name,meta.clinical.age_approx,meta.clinical.anatom_site_general,meta.clinical.diagnosis,meta.clinical.sex",
        "ISIC_0012080,35,lower extremity,solar lentigo,female",
        "ISIC_0012081,60,head/neck,melanoma,male",
    )
    rows = by_id(listed(tmp_path, "isic-2017"))
    assert rows["ISIC_0012080"]["diagnosis"] == "solar_lentigo"
    assert [rows["ISIC_0012081"][n] for n in ("diagnosis", "site")] == ["melanoma", "head/neck"]


@pytest.mark.parametrize(
    "name", ["ISIC_2020_Training_GroundTruth.csv", "ISIC_2020_Training_GroundTruth_v2.csv", "train.csv"]
)
def test_isic_2020_as_downloaded(tmp_path: Path, name: str) -> None:
    table(
        tmp_path / name,
        "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target",
        "ISIC_2637011,IP_7279968,male,45.0,head/neck,unknown,benign,0",
        "ISIC_0015719,IP_3075186,female,45.0,upper extremity,lichenoid keratosis,benign,0",
        "ISIC_0052212,IP_2842074,female,50.0,torso,melanoma,malignant,1",
        "ISIC_0068279,IP_6890425,,,,cafe-au-lait macule,benign,0",
    )
    for n, image in enumerate(("ISIC_2637011", "ISIC_0015719", "ISIC_0052212", "ISIC_0068279")):
        photo(tmp_path / "train" / f"{image}.jpg", n)
    listing = listed(tmp_path, "isic-2020")
    rows = by_id(listing)
    assert [rows[i]["diagnosis"] for i in rows] == ["benign_keratosis", "melanoma", "miscellaneous", None]
    assert rows["ISIC_2637011"]["group_id"] == "isic:patient:IP_7279968"
    assert (rows["ISIC_0052212"]["site"], rows["ISIC_0052212"]["age_years"]) == ("torso", 50.0)
    assert listing.unmapped == {}
    table(
        tmp_path / "ISIC_2020_Test_Metadata.csv",
        "image,patient,age_approximate,sex,anatom_site_general",
        "ISIC_1,IP_9,25,male,torso",
    )
    test = by_id(listed(tmp_path, "isic-2020", part="test"))
    assert [test["ISIC_1"][n] for n in ("patient_id", "age_years", "diagnosis")] == ["IP_9", 25, None]


def test_isic_seg_with_and_without_tables(tmp_path: Path) -> None:
    plain, challenge = tmp_path / "plain", tmp_path / "challenge"
    photo(plain / "images" / "ISIC_0000011.jpg")
    photo(plain / "masks" / "ISIC_0000011.png")
    listing = listed(plain, "isic-seg")
    assert by_id(listing)["ISIC_0000011"]["truth_mask_path"] == "masks/ISIC_0000011.png"
    data = challenge / "ISIC-2017_Training_Data"
    for number in (0, 1, 2):
        photo(data / f"ISIC_000000{number}.jpg", number)
        photo(data / f"ISIC_000000{number}_superpixels.png")
        photo(challenge / "ISIC-2017_Training_Part1_GroundTruth" / f"ISIC_000000{number}_segmentation.png")
    table(
        challenge / "ISIC-2017_Training_Part3_GroundTruth.csv",
        "image_id,melanoma,seborrheic_keratosis",
        "ISIC_0000000,0.0,0.0",
        "ISIC_0000001,1.0,0.0",
        "ISIC_0000002,0.0,1.0",
    )
    table(data / "ISIC-2017_Training_Data_metadata.csv", "image_id,age_approximate,sex", "ISIC_0000001,unknown,male")
    rows = by_id(listed(challenge, "isic-seg"))
    assert [rows[f"ISIC_000000{n}"]["diagnosis"] for n in (0, 1, 2)] == ["nevus", "melanoma", "seborrheic_keratosis"]
    assert all(row["truth_mask_path"] for row in rows.values())
    assert (rows["ISIC_0000001"]["age_years"], rows["ISIC_0000001"]["sex"]) == (None, "male")
    assert len(rows) == 3


def test_derm7pt_gives_two_views_of_a_case(tmp_path: Path) -> None:
    header = (
        "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,regression_structures,dots_and_globules,"
        "blue_whitish_veil,vascular_structures,level_of_diagnostic_difficulty,elevation,location,sex,management,clinic,derm,"
        "case_id,notes"
    )
    row = (
        "3,melanoma (less than 0.76 mm),4,atypical,absent,absent,absent,irregular,absent,absent,medium,palpable,"
        "lower limbs,female,excision,Nel/NEL025.JPG,NEL/Nel026.jpg,,private note"
    )
    table(tmp_path / "release_v0" / "meta" / "meta.csv", header, row)
    photo(tmp_path / "release_v0" / "images" / "NEL" / "NEL025.jpg", 1)
    photo(tmp_path / "release_v0" / "images" / "NEL" / "Nel026.jpg", 2)
    rows = by_id(listed(tmp_path, "derm7pt"))
    clinical, dermoscopic = rows["3-clinical"], rows["3-dermoscopic"]
    assert clinical["case_id"] == dermoscopic["case_id"] == "3"
    assert (clinical["view"], dermoscopic["modality"]) == ("clinical", "dermoscopic")
    assert clinical["group_id"] == dermoscopic["group_id"] == "derm7pt:lesion:3"
    assert clinical["diagnosis"] == "melanoma"
    assert (clinical["site"], clinical["elevation"], clinical["age_years"]) == ("lower extremity", "True", None)
    assert clinical["seven_point__pigment_network"] == "atypical"
    assert clinical["seven_point__score"] == "4"
    own = {name: clinical[f"derm7pt__{name}"] for name in ("location", "elevation", "difficulty", "management")}
    assert own == {
        "location": "lower limbs", "elevation": "palpable", "difficulty": "medium", "management": "excision",
    }  # fmt: skip
    assert {clinical["status"], dermoscopic["status"]} == {"ok"}
    assert "private note" not in str(rows)


@pytest.mark.parametrize(
    ("value", "kept", "flags"),
    [
        ("Arborizing", "arborizing", None),
        ("n/a", None, None),
        ("crown", None, "seven_point__vascular_structures_unmapped"),
    ],
)
def test_derm7pt_keeps_the_values_of_a_criterion_and_counts_others(
    value: str, kept: str | None, flags: str | None, tmp_path: Path
) -> None:
    table(
        tmp_path / "meta.csv",
        "case_num,diagnosis,vascular_structures,clinic,derm",
        f"3,clark nevus,{value},a.jpg,b.jpg",
    )
    row = by_id(listed(tmp_path, "derm7pt"))["3-dermoscopic"]
    assert (row["seven_point__vascular_structures"], row["flags"]) == (kept, flags)


def test_an_archive_in_the_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        listed(tmp_path, "ham10000")
    assert "HAM10000_metadata" in caught.value.expected
    with pytest.raises(InputError) as error:
        listed(tmp_path / "no", "ham10000")
    assert "no folder" in error.value.found
    table(tmp_path / "metadata.csv", PAD_HEADER, PAD_FULL)
    with pytest.raises(InputError) as error:
        listed(tmp_path, "ham10000")
    assert "column 'image_id'" in error.value.found


# ------------------------------------------------------------------------------------------------------ hospitals

CHINESE_HEADER = "患者编号;姓名;电话;照片;性别;年龄;部位;诊断;长径;出血;相机"
CHINESE_ROWS = (
    "P1;张三;13800000000;IMG_1;女;58岁;面部;基底细胞癌;5,5;是;佳能",
    "P1;张三;13800000000;IMG_2.JPG;女;58岁;背部;色素痣;12;否;佳能",
    "P2;李四;13900000000;2022\\IMG_3.jpg;男;130;左小腿;待查;;是;尼康",
    "P3;王五;13900000001;IMG_4;不详;-3岁;肘窝;;3,0;否;尼康",
)
CHINESE_TOML = """
file = "病例.csv"
encoding = "gb18030"
delimiter = ";"
decimal = ","
keep = ["相机"]
modality = "clinical"
id_space = "jinan"

[columns]
image = "照片"
patient_id = "患者编号"
sex = "性别"
age_years = "年龄"
site = "部位"
diagnosis = "诊断"
diameter_1_mm = "长径"
bleed = "出血"
"""


def chinese_hospital(root: Path, toml: str = CHINESE_TOML, rows: Sequence[str] = CHINESE_ROWS) -> Path:
    table(root / "病例.csv", CHINESE_HEADER, *rows, encoding="gb18030")
    for number in range(1, 5):
        photo(root / "照片" / "2022" / f"IMG_{number}.jpg", number)
    (root / "cohort.toml").write_text(toml, encoding="utf-8")
    return root


def test_a_chinese_hospital(tmp_path: Path) -> None:
    listing = listed(chinese_hospital(tmp_path))
    rows = by_id(listing)
    assert set(rows) == {"IMG_1", "IMG_2", "2022/IMG_3", "IMG_4"}
    assert {row["status"] for row in rows.values()} == {"ok"}
    first = rows["IMG_1"]
    expected = {
        "diagnosis": "basal_cell_carcinoma", "age_years": 58.0, "sex": "female", "site": "head/neck", "region": "FACE",
        "diameter_1_mm": 5.5, "bleed": "True", "keep__相机": "佳能", "group_id": "jinan:patient:P1",
        "modality": "clinical",
        "image_path": "照片/2022/IMG_1.jpg", "diagnosis_source": "基底细胞癌",
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert rows["2022/IMG_3"]["flags"] == "age_impossible,diagnosis_suspected"
    assert rows["IMG_4"]["flags"] == "age_impossible,site_unmapped"
    assert (rows["IMG_4"]["age_years"], rows["IMG_4"]["sex"], rows["IMG_4"]["diagnosis"]) == (None, None, None)
    assert listing.unmapped == {"age_years": {"-3岁": 1, "130": 1}, "diagnosis": {"待查": 1}, "site": {"肘窝": 1}}
    assert "张三" not in str(listing.rows)
    assert "138" not in str(listing.rows)


def test_values_patterns_and_icd10_decide_in_this_order(tmp_path: Path) -> None:
    toml = """
file = "t.csv"
[columns]
image = "f"
diagnosis = "dx"
icd10 = "code"
[values.diagnosis]
"Spitz naevus" = "nevus"
"to be seen" = ""
[[patterns.diagnosis]]
match = "melanoma"
value = "melanoma"
[[patterns.diagnosis]]
match = "mela|naevus"
value = "miscellaneous"
[icd10]
"C44.31" = "basal_cell_carcinoma"
"D22.9" = ""
"""
    cases = {
        "SPITZ  NAEVUS": ("", "nevus"), "to be seen": ("C43", None), "Nodular Melanoma, 2 mm": ("", "melanoma"),
        "melasma": ("", "miscellaneous"), "nevus": ("C43", None), "": ("C43.9", "melanoma"), "strange": ("L82",
        "seborrheic_keratosis"),
        "c44.311": ("", "basal_cell_carcinoma"), "C44.1": ("", None), "L57.0 solar": ("", "actinic_keratosis"),
        "D22.5": ("", "nevus"), "D22.9": ("", None), "BCC": ("", "basal_cell_carcinoma"), "unknown": ("", None),
    }  # fmt: skip
    (tmp_path / "cohort.toml").write_text(toml)
    lines = [f'{i},"{dx}",{code}' for i, (dx, (code, _)) in enumerate(cases.items())]
    table(tmp_path / "t.csv", "f,dx,code", *lines)
    listing = listed(tmp_path)
    rows = by_id(listing)
    assert {dx: rows[str(i)]["diagnosis"] for i, dx in enumerate(cases)} == {dx: v for dx, (_, v) in cases.items()}
    assert listing.unmapped == {"diagnosis": {"nevus, but C43": 1, "C44.1": 1}}
    assert [i for i, row in rows.items() if row["flags"]] == ["4", "8"]


@pytest.mark.parametrize(
    ("text", "years"),
    [("58", 58), ("58.5", 58.5), ("58岁", 58), ("58 years", 58), ("058Y", 58), ("018M", 1.5), ("6个月", 0.5),
     ("3岁6月", 3.5),
     ("26周", 0.5), ("030D", 0.08), ("0", 0), ("120", 120), ("121", None), ("-1", None), ("old", None), ("", None),
     ("NA", None)],
)  # fmt: skip
def test_ages(tmp_path: Path, text: str, years: float | None) -> None:
    (tmp_path / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "f"\nage_years = "age"\n')
    table(tmp_path / "t.csv", "f,age", f"a,{text}")
    row = by_id(listed(tmp_path))["a"]
    assert row["age_years"] == years
    assert row["flags"] == {"121": "age_impossible", "-1": "age_impossible", "old": "age_years_unmapped"}.get(text)


@pytest.mark.parametrize(
    ("birth", "exam", "date_format"),
    [("1961-02-28", "2022-02-28", ""), ("19610228", "20220228", ""), ("1961年2月28日", "2022/2/28", ""),
     ("28.02.1961", "28.02.2022", "%d.%m.%Y")],
)  # fmt: skip
def test_age_from_dates_that_are_not_kept(tmp_path: Path, birth: str, exam: str, date_format: str) -> None:
    columns = '[columns]\nimage = "f"\nbirth_date = "born"\nexam_date = "seen"\n'
    (tmp_path / "cohort.toml").write_text(f'file = "t.csv"\ndate_format = "{date_format}"\n{columns}')
    table(tmp_path / "t.csv", "f,born,seen", f"a,{birth},{exam}", f"b,{exam},{birth}", f"c,,{exam}")
    rows = by_id(listed(tmp_path))
    assert rows["a"]["age_years"] == 61.0
    assert (rows["b"]["age_years"], rows["b"]["flags"]) == (None, "age_impossible")
    assert rows["c"]["age_years"] is None
    assert birth not in str(rows)


def test_a_date_that_could_be_two_is_asked_for(tmp_path: Path) -> None:
    columns = '[columns]\nimage = "f"\nbirth_date = "born"\nexam_date = "seen"\n'
    (tmp_path / "cohort.toml").write_text(f'file = "t.csv"\n{columns}')
    table(tmp_path / "t.csv", "f,born,seen", "a,03/04/1961,2022-01-01")
    with pytest.raises(InputError) as caught:
        listed(tmp_path)
    assert "row 2, column 'born': '03/04/1961'" in caught.value.found
    assert "date_format" in caught.value.fix


def excel(path: Path, rows: Sequence[Sequence[Any]], sheet: str = "Sheet") -> None:
    book = openpyxl.Workbook()
    page = book.active if sheet == "Sheet" else book.create_sheet(sheet)
    assert page is not None
    for row in rows:
        page.append(list(row))
    book.save(path)


def test_xlsx_and_parquet(tmp_path: Path) -> None:
    toml = """
file = "FILE"
SHEET
decimal = ","
[columns]
image = "照片"
patient_id = "患者"
birth_date = "出生日期"
exam_date = "检查日期"
diameter_1_mm = "长径"
itch = "瘙痒"
"""
    header = ["照片", "患者", "出生日期", "检查日期", "长径", "瘙痒"]
    values = ["a", 1001, dt.datetime(1961, 2, 28), dt.datetime(2022, 2, 28), 5.5, True]
    expected = {"patient_id": "1001", "age_years": 61.0, "diameter_1_mm": 5.5, "itch": "True"}
    excel(tmp_path / "t.xlsx", [[], header, values, [None] * 6], sheet="2022")
    (tmp_path / "cohort.toml").write_text(toml.replace("FILE", "t.xlsx").replace("SHEET", 'sheet = "2022"'))
    row = by_id(listed(tmp_path))["a"]
    assert {name: row[name] for name in expected} == expected
    (tmp_path / "cohort.toml").write_text(toml.replace("FILE", "t.xlsx").replace("SHEET", 'sheet = "2021"'))
    with pytest.raises(InputError) as error:
        listed(tmp_path)
    assert "sheet '2021'" in error.value.found
    pq.write_table(
        pa.table({name: [value] for name, value in zip(header, values, strict=True)}), tmp_path / "t.parquet"
    )
    (tmp_path / "cohort.toml").write_text(toml.replace("FILE", "t.parquet").replace("SHEET", ""))
    row = by_id(listed(tmp_path))["a"]
    assert {name: row[name] for name in expected} == expected


def test_tsv_bom_and_latin_1(tmp_path: Path) -> None:
    toml = 'file = "t.tsv"\nencoding = "ENC"\n[columns]\nimage = "Bild"\nsite = "Körperstelle"\n'
    lines = ("Bild\tKörperstelle", "a\tface")
    for encoding, written in (("utf-8", "utf-8-sig"), ("latin-1", "latin-1"), ("utf-16", "utf-16")):
        table(tmp_path / "t.tsv", *lines, encoding=written)
        (tmp_path / "cohort.toml").write_text(toml.replace("ENC", encoding), encoding="utf-8")
        assert by_id(listed(tmp_path))["a"]["site"] == "head/neck"


# ------------------------------------------------------------------------------------------ which images are whose


def test_many_images_per_exam_by_a_pattern(tmp_path: Path) -> None:
    toml = 'file = "t.csv"\n[columns]\naccession = "no"\ndiagnosis = "dx"\n[join]\npattern = "{accession}*/*.jpg"\n'
    (tmp_path / "cohort.toml").write_text(toml)
    table(tmp_path / "t.csv", "no,dx", "12,nevus", "123,melanoma", "77,bcc", "../x,nevus", ",nevus")
    for place in ("12_left/1.jpg", "12_left/2.jpg", "12/1.jpg", "123/1.jpg", "0123/1.jpg"):
        photo(tmp_path / place)
    rows = by_id(listed(tmp_path))
    assert {i: row["diagnosis"] for i, row in rows.items() if row["status"] == "ok"} == {
        "12/1": "nevus", "12_left/1": "nevus", "12_left/2": "nevus", "123/1": "melanoma",
    }  # fmt: skip
    assert rows["77"]["reason"] == "image_absent"
    assert rows["0123/1"]["reason"] == "row_absent"
    assert rows["../x"]["reason"] == "path_outside_root"
    assert rows["row-6"]["reason"] == "image_unnamed"


def test_images_by_a_dicom_tag(tmp_path: Path) -> None:
    toml = 'file = "t.csv"\n[columns]\naccession = "no"\nsex = "sex"\n[join]\ndicom_tag = "AccessionNumber"\n'
    (tmp_path / "cohort.toml").write_text(toml)
    table(tmp_path / "t.csv", "no,sex", "A77,F", "A78,M")
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    (tmp_path / "pacs").mkdir()
    (tmp_path / "pacs" / "IM000001").write_bytes(dicom(pixels))
    (tmp_path / "pacs" / "1.2.840.55").write_bytes(dicom(pixels + 1))
    (tmp_path / "pacs" / "notes").write_bytes(b"no image")
    photo(tmp_path / "pacs" / "other.jpg")
    listing = listed(tmp_path)
    assert outcomes(listing) == {
        "pacs/1.2.840.55": ("ok", None), "pacs/IM000001": ("ok", None), "A78": ("pending", "image_absent"),
        "pacs/other": ("pending", "row_absent"),
    }  # fmt: skip
    assert by_id(listing)["pacs/IM000001"]["sex"] == "female"
    assert "Private" not in str(listing.rows)


def test_several_names_in_one_cell(tmp_path: Path) -> None:
    toml = 'file = "t.csv"\n[columns]\nimage = "f"\npatient_id = "p"\n[join]\nseparator = ";"\n'
    (tmp_path / "cohort.toml").write_text(toml)
    table(tmp_path / "t.csv", "f,p", "a.jpg; b.jpg,P1")
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg")
    assert {row["patient_id"] for row in listed(tmp_path).rows} == {"P1"}
    assert set(outcomes(listed(tmp_path))) == {"a", "b"}


def test_names_that_lead_out_are_never_followed(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    photo(root / "in" / "a.jpg")
    photo(tmp_path / "secret.jpg")
    (root / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "f"\nmask = "m"\n')
    inside = root / "in" / "a.jpg"
    names = ["../secret.jpg", str(tmp_path / "secret.jpg"), "in/../../secret.jpg", "C:\\secret.jpg", "..\\other.jpg"]
    table(root / "t.csv", "f,m", *(f"{name}," for name in names), f"{inside},../secret.jpg")
    rows = listed(root).rows
    assert Counter(row["reason"] for row in rows) == {"path_outside_root": 5, None: 1}
    kept = next(row for row in rows if row["status"] == "ok")
    assert kept["image_path"] == "in/a.jpg"
    assert (kept["truth_mask_path"], kept["flags"]) == (None, "mask_outside_root")
    assert all(row["image_path"] is None for row in rows if row["status"] == "failed")


def test_a_name_that_fits_two_files_fails_unless_its_folder_is_given(tmp_path: Path) -> None:
    photo(tmp_path / "x" / "a.jpg", 1)
    photo(tmp_path / "y" / "a.jpg", 2)
    (tmp_path / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "f"\n')
    table(tmp_path / "t.csv", "f", "a", "Y/A.JPG")
    assert outcomes(listed(tmp_path)) == {
        "a": ("failed", "image_ambiguous"), "Y/A": ("ok", None), "x/a": ("pending", "row_absent"),
    }  # fmt: skip


def test_rows_that_name_one_image(tmp_path: Path) -> None:
    for name in "abc":
        photo(tmp_path / f"{name}.jpg")
    (tmp_path / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "f"\ndiagnosis = "dx"\n')
    table(tmp_path / "t.csv", "f,dx", "a,nevus", "b,nevus", "b.jpg,nevus", "c,nevus", "c,melanoma")
    listing = listed(tmp_path)
    assert outcomes(listing) == {
        "a": ("ok", None), "b": ("ok", None), "b#row4": ("excluded", "duplicate_row"), "c": ("failed", "duplicate_id"),
        "c#row6": ("failed", "duplicate_id"),
    }  # fmt: skip
    assert "rows 5, 6" in by_id(listing)["c"]["detail"]


def test_without_a_table_every_image_is_a_case(tmp_path: Path) -> None:
    photo(tmp_path / "mon" / "1.jpg")
    photo(tmp_path / "tue" / "1.jpg")
    photo(tmp_path / "tue" / "1.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    expected = {"mon/1": ("ok", None), "tue/1.jpg": ("ok", None), "tue/1.png": ("ok", None)}
    assert outcomes(listed(tmp_path, role="inference")) == expected
    assert outcomes(listed(tmp_path, table="")) == expected
    with pytest.raises(ConfigError) as caught:
        listed(tmp_path)
    assert "--draft" in caught.value.fix
    (tmp_path / "cohort.toml").write_text('modality = "clinical"\nimages = ["tue/*"]\n')
    listing = listed(tmp_path)
    assert set(outcomes(listing)) == {"tue/1.jpg", "tue/1.png"}
    assert {row["modality"] for row in listing.rows} == {"clinical"}
    assert set(listing.rows[0]) == set(CASES.names) - {"fingerprint"}


def test_masks_by_stem_path_and_column(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "x" / "a.jpg", 1)
    photo(tmp_path / "photos" / "y" / "a.jpg", 2)
    photo(tmp_path / "drawn" / "a.png")
    photo(tmp_path / "mirror" / "photos" / "x" / "a.png")
    toml = 'images = ["photos/**/*"]\nmasks = "MASKS"\n'
    (tmp_path / "cohort.toml").write_text(toml.replace("MASKS", "drawn/{stem}.png"))
    assert {row["flags"] for row in listed(tmp_path).rows} == {"mask_ambiguous"}
    (tmp_path / "cohort.toml").write_text(toml.replace("MASKS", "mirror/{path}.png"))
    masks = {row["image_id"]: row["truth_mask_path"] for row in listed(tmp_path).rows}
    assert masks == {"photos/x/a": "mirror/photos/x/a.png", "photos/y/a": None}
    (tmp_path / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "f"\nmask = "m"\n')
    (tmp_path / "mirror" / "photos" / "x" / "a.png").rename(tmp_path / "mirror" / "outline.png")
    photo(tmp_path / "photos" / "y" / "b.jpg", 3)
    lines = ("photos/x/a,drawn/a.png", "photos/y/a,drawn/no.png", "b,outline.png", "b,outline.png")
    table(tmp_path / "t.csv", "f,m", *lines)
    listing = listed(tmp_path)
    rows = by_id(listing)
    assert rows["photos/x/a"]["truth_mask_path"] == "drawn/a.png"
    assert rows["photos/y/a"]["flags"] == "mask_absent"
    assert rows["b"]["truth_mask_path"] == "mirror/outline.png"
    assert set(rows) == {"photos/x/a", "photos/y/a", "b", "b#row5"}  # a mask is not an image that waits for its row
    assert listing.flow["truth_masks"] == 2


def test_skinkits_own_files_are_no_images(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "artifacts" / "h" / "masks" / "otsu" / "a.png")
    (tmp_path / "skinkit.toml").write_text("")
    assert set(find_files(cohort(tmp_path, role="inference")).images) == {"a.jpg"}


# --------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('fille = "t.csv"', "did you mean 'file'"),
        ('file = "t.csv"\n[colums]\n', "did you mean 'columns'"),
        ('file = "t.csv"\n[columns]\ndiagnose = "dx"', "did you mean 'diagnosis'"),
        ('file = "t.csv"\n[columns]\nimage = "f"\n[values.diagnosis]\nx = "melanom"', "did you mean 'melanoma'"),
        ('file = "t.csv"\n[columns]\nimage = "f"\n[values.sex]\nx = "M"', "female, male"),
        ('file = "t.csv"\nencoding = "gb18300"', "did you mean 'gb18030'"),
        ('file = "t.csv"\ndecimal = ";"', '"." or ","'),
        ('file = "t.csv"\nmodality = "dermoscopy"', "did you mean 'dermoscopic'"),
        ('file = "t.csv"\n[columns]\nimage = "f"\n[[patterns.diagnosis]]\nmatch = "("\nvalue = "nevus"', "regular"),
        (
            'file = "t.csv"\n[columns]\nimage = "f"\n[join]\npattern = "{accesion}/*"',
            "mapped in [columns]|known: image",
        ),
        ('file = "t.csv"\n[columns]\naccession = "f"\n[join]\ndicom_tag = "AccesionNo"', "DICOM keyword"),
        ('file = "t.csv"\n[columns]\nsex = "f"', "image in [columns]"),
        ('file = "t.csv"\nmasks = "masks/*.png"', "{stem}"),
        ("file = 3", "text in quotes"),
        ("keep = 3", "a list of texts"),
        ('file = "t.csv"\n[icd10]\nmelanoma = "melanoma"', "ICD-10 code"),
        ("file = ", "valid UTF-8 TOML"),
    ],
)
def test_mistakes_in_cohort_toml_name_the_file_and_the_way_out(tmp_path: Path, toml: str, told: str) -> None:
    (tmp_path / "cohort.toml").write_text(toml)
    table(tmp_path / "t.csv", "f", "a")
    with pytest.raises(ConfigError) as caught:
        listed(tmp_path)
    assert "cohort.toml" in caught.value.found
    assert any(choice in caught.value.expected for choice in told.split("|")), caught.value.expected
    assert caught.value.fix


def failing(root: Path, kind: type[SkinkitError] = InputError) -> SkinkitError:
    with pytest.raises(kind) as caught:
        listed(root)
    return caught.value


def test_mistakes_in_the_table_name_file_row_and_column(tmp_path: Path) -> None:
    (tmp_path / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "f"\ndiameter_1_mm = "mm"\n')
    path = table(tmp_path / "t.csv", "f,mm", "a,5", "b,面部", encoding="gb18030")
    error = failing(tmp_path)
    assert f"{path}, row 3: byte" in error.found
    assert error.fix == 'set encoding = "gb18030"'
    table(path, "f,mm", 'a,"5,5"')
    error = failing(tmp_path)
    assert error.found == f"{path}, row 2, column 'mm': '5,5'"
    assert 'decimal = ","' in error.fix
    table(path, "f,mm", "a,5,5")
    error = failing(tmp_path)
    assert "row 2: 3 cells under 2 columns" in error.found
    table(path, "f;mm", "a;5")
    assert failing(tmp_path).fix == 'the delimiter looks like a semicolon: set delimiter = ";"'
    table(path, "f,size_mm", "a,5")
    error = failing(tmp_path)
    assert error.found == f"{path}: no column 'mm'"
    assert "size_mm" in error.expected
    table(path, "f,mm,mm", "a,5,6")
    assert "two columns are called 'mm'" in failing(tmp_path).found
    path.write_bytes(b"")
    assert "is empty" in failing(tmp_path).found
    path.unlink()
    table(tmp_path / "u.csv", "f,mm")
    error = failing(tmp_path)
    assert "no table" in error.found
    assert "u.csv" in error.expected
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04 this is a workbook")
    assert "Excel" in failing(tmp_path).found


def test_rows_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    (tmp_path / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "f"\ndiameter_1_mm = "mm"\n')
    table(tmp_path / "t.csv", "f,mm,note", "", 'a,5,"two', 'lines"', 'b,"1,5",')
    assert "row 5, column 'mm'" in failing(tmp_path).found


# ---------------------------------------------------------------------------------------------------------- draft


def test_draft_of_a_chinese_table_reads_back(tmp_path: Path) -> None:
    root = chinese_hospital(tmp_path)
    (root / "cohort.toml").unlink()
    answer = write_draft(root / "病例.csv", root)
    assert (answer["encoding"], answer["delimiter"], answer["decimal"]) == ("gb18030", ";", ",")
    assert answer["columns"] == {
        "image": "照片", "patient_id": "患者编号", "sex": "性别", "age_years": "年龄", "site": "部位",
        "diagnosis": "诊断",
        "diameter_1_mm": "长径", "bleed": "出血",
    }  # fmt: skip
    assert answer["not_taken"] == ["姓名", "电话", "相机"]
    assert answer["unmapped"] == {"diagnosis": {"待查": 1}, "site": {"肘窝": 1}}
    text = (root / "cohort.toml").read_text(encoding="utf-8")
    assert '"基底细胞癌" = "basal_cell_carcinoma"' in text
    assert '# "待查" = ""  # 1' in text
    assert "待查" in answer["text"]
    rows = by_id(listed(root))
    assert rows["IMG_1"]["diagnosis"] == "basal_cell_carcinoma"
    assert {row["status"] for row in rows.values()} == {"ok"}
    with pytest.raises(RefusedError):
        write_draft(root / "病例.csv", root)
    assert (root / "cohort.toml").read_text(encoding="utf-8") == text


def test_draft_of_an_english_workbook_elsewhere(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "x1.jpg")
    header = ["Photo file", "Patient ID", "Age (years)", "Gender", "Histology", "Name", "SSN", "Body site"]
    excel(tmp_path / "t.xlsx", [header, ["x1", 7, 61, "F", "Basal cell carcinoma, nodular", "Doe", "1", "Left cheek?"]])
    answer = write_draft(tmp_path / "t.xlsx", tmp_path / "images")
    assert answer["columns"] == {
        "image": "Photo file", "patient_id": "Patient ID", "diagnosis": "Histology", "age_years": "Age (years)",
        "sex": "Gender", "site": "Body site",
    }  # fmt: skip
    assert answer["unmapped"] == {
        "diagnosis": {"Basal cell carcinoma, nodular": 1},
        "site": {"Left cheek?": 1},
    }
    row = by_id(listed(tmp_path / "images"))["x1"]
    assert (row["diagnosis"], row["sex"], row["age_years"]) == (None, "female", 61.0)
    draft = (tmp_path / "images" / "cohort.toml").read_text()
    assert '# "Basal cell carcinoma, nodular" = "basal_cell_carcinoma"  # 1; a guess' in draft
    assert "SSN  (looks private)" in draft


def test_draft_leaves_doubtful_diagnoses_to_a_person(tmp_path: Path) -> None:
    words = [
        "黑色素瘤?",
        "排除黑色素瘤",
        "BCC vs SCC",
        "Bowen病",
        "恶性黑色素瘤(浸润型)",
        "雀斑样痣",
        "混合痣",
        "扁平疣",
    ]
    table(tmp_path / "t.csv", "image,诊断", *(f"{i},{word}" for i, word in enumerate(words)))
    answer = write_draft(tmp_path / "t.csv", tmp_path)
    assert set(answer["unmapped"]["diagnosis"]) == {*words} - {"混合痣"}
    assert answer["guesses"] == {"diagnosis": {"恶性黑色素瘤(浸润型)": "melanoma"}}


def test_draft_with_wild_words_stays_valid_toml(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["image", "diagnosis", 'say "x"\n= 1'], ["a", 'a "quote" \\ and\nline', "y"]])
    write_draft(tmp_path / "t.csv", tmp_path)
    listing = listed(tmp_path)
    assert list(listing.unmapped["diagnosis"]) == ['a "quote" \\ and\nline']


def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "hospitals" / "cohort.example.toml"
    (tmp_path / "cohort.toml").write_bytes(example.read_bytes())
    header = "照片编号;患者编号;皮损编号;病理诊断;疾病编码;出生日期;检查日期;性别;部位;长径;瘙痒;出血;相机;姓名"
    row = "IMG_1;P1;2;恶性黑素瘤,结节型;;1961/02/28;2022/02/28;2;肘窝;5,5;否;未做;佳能;张三"
    table(tmp_path / "病例.csv", header, row, "IMG_2;P2;1;;C44.31;;;1;面部;;;;;李四", encoding="gb18030")
    photo(tmp_path / "照片" / "IMG_1.jpg")
    photo(tmp_path / "勾画" / "IMG_1.png")
    rows = by_id(listed(tmp_path))
    expected: Mapping[str, Any] = {
        "diagnosis": "melanoma", "age_years": 61.0, "sex": "female", "site": "upper extremity", "diameter_1_mm": 5.5,
        "itch": "False", "bleed": None, "keep__相机": "佳能", "lesion_id": "P1|2", "confirmed_by": "histopathology",
        "truth_mask_path": "勾画/IMG_1.png", "group_id": "jinan:patient:P1",
    }  # fmt: skip
    assert {name: rows["IMG_1"][name] for name in expected} == expected
    assert rows["IMG_2"]["diagnosis"] == "basal_cell_carcinoma"


# ------------------------------------------------------------------------------------------------------ real data


@pytest.mark.real
def test_real_pad_table(real_data: Path) -> None:
    listing = listed(real_data / "pad", "pad-ufes-20")
    rows = listing.rows
    assert len(rows) == 2298
    assert Counter(row["diagnosis_source"] for row in rows) == {
        "ACK": 730, "BCC": 845, "MEL": 52, "NEV": 244, "SCC": 192, "SEK": 235,
    }  # fmt: skip
    assert len({row["patient_id"] for row in rows}) == 1373
    assert len({row["lesion_id"] for row in rows}) == 1891
    assert sum(row["smoke"] is None and row["diameter_1_mm"] is None and row["sex"] is None for row in rows) == 804
    assert sum(row["background_father"] is None for row in rows) == 818
    assert sum(row["background_mother"] is None for row in rows) == 822
    assert sum(row["confirmed_by"] == "histopathology" for row in rows) == 1342
    assert {row["age_years"] is None for row in rows} == {False}
    assert Counter(row["grew"] for row in rows)["UNK"] == 402
    assert Counter(row["status"] for row in rows) == {"ok": 1030, "pending": 1268}
    assert listing.flow["truth_masks"] == 968
    assert listing.unmapped == {}
    assert {row["region"] for row in rows} == set(REGION_SITES)


@pytest.mark.real
def test_real_isic_tables(real_data: Path) -> None:
    ham = listed(real_data / "isic" / "tables", "ham10000")
    assert Counter(row["diagnosis_source"] for row in ham.rows) == {
        "nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115,
    }  # fmt: skip
    assert len({row["lesion_id"] for row in ham.rows}) == 7470
    assert ham.unmapped == {}
    challenge = listed(real_data / "isic" / "tables", "isic-2019")
    assert Counter(row["diagnosis_source"] for row in challenge.rows) == {
        "NV": 12875, "MEL": 4522, "BCC": 3323, "BKL": 2624, "AK": 867, "SCC": 628, "VASC": 253, "DF": 239,
    }  # fmt: skip
    assert sum(row["site"] is None for row in challenge.rows) == 2631
    assert sum(row["sex"] is None for row in challenge.rows) == 384
    assert sum(row["age_years"] is None for row in challenge.rows) == 491
    complete = [row for row in challenge.rows if row["site"] and row["sex"] and row["age_years"] is not None]
    assert len(complete) == 22426
    assert sum(row["lesion_id"] is None for row in challenge.rows) == 2084
    assert challenge.unmapped == {}
    assert len({row["group_id"] for row in ham.rows} & {row["group_id"] for row in challenge.rows}) > 7000
    test = listed(real_data / "isic" / "ham_test", "isic-2018-task3")
    assert (len(test.rows), test.flow["images_used"]) == (853, 467)
    seg = listed(real_data / "isic" / "seg", "isic-seg")
    assert (seg.flow["images_used"], seg.flow["truth_masks"]) == (92, 92)
