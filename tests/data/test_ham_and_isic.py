"""What goes wrong with HAM10000 and ISIC 2018/2019: shared images, unknown ages and sites, masks that hold nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from source_tables import listed, table

from skinkit.audit import leakage
from skinkit.errors import RefusedError
from skinkit.stats.encoders import INDICATOR, Encoder

META = "image,age_approx,anatom_site_general,lesion_id,sex"
LABELS = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"


def photo(file: Path, seed: int, **how: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    coarse.resize((96, 72), Image.Resampling.BICUBIC).save(file, **how)


@pytest.fixture
def cohorts(tmp_path: Path) -> dict[str, pd.DataFrame]:
    """HAM10000 and ISIC 2019, which shares one image, encoded again, and one lesion with it."""
    ham, isic = tmp_path / "ham", tmp_path / "isic"
    table(
        ham / "HAM10000_metadata.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset",
        "HAM_1,ISIC_0024306,nv,histo,50.0,male,back,vidir_modern",
        "HAM_2,ISIC_0024307,mel,histo,0.0,unknown,unknown,rosendahl",
        "HAM_3,ISIC_0024308,bkl,histo,50.0,female,face,rosendahl",
        "HAM_4,ISIC_0024309,nv,histo,80.0,female,face,rosendahl",
    )
    for i in range(4):
        photo(ham / "HAM10000_images_part_1" / f"ISIC_002430{6 + i}.jpg", i, quality=95)
    names = ("ISIC_0024306", "ISIC_0099998", "ISIC_0099999")
    lines = (f"{names[0]},0.0,,HAM_1,male", f"{names[1]},55.0,,HAM_3,", f"{names[2]},,,BCN_9,male")
    table(isic / "ISIC_2019_Training_Metadata.csv", META, *lines)
    rows = [f"{name},0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0" for name in names]
    table(isic / "ISIC_2019_Training_GroundTruth.csv", LABELS, *rows)
    for seed, name in zip((0, 8, 9), names, strict=True):
        photo(isic / "ISIC_2019_Training_Input" / f"{name}.jpg", seed, quality=70)
    return {name: pd.DataFrame(listed(of, name).rows) for name, of in (("ham10000", ham), ("isic-2019", isic))}


def test_the_overlap_of_ham10000_and_isic_2019_is_refused(cohorts: dict[str, pd.DataFrame]) -> None:
    """The bytes differ, so that only the ids tell."""
    found = leakage.check(cohorts["isic-2019"], cohorts["ham10000"])
    assert set(found.refused["case_id"]) == {"ISIC_0024306", "ISIC_0099998"}
    with pytest.raises(RefusedError):
        leakage.refuse(found, "", "isic-2019")
    apart = cohorts["isic-2019"][cohorts["isic-2019"]["image_id"] == "ISIC_0099999"]
    leakage.refuse(leakage.check(apart, cohorts["ham10000"]), "", "isic-2019")


def test_age_0_and_unknown_words_are_not_known_and_the_median_age_is(cohorts: dict[str, pd.DataFrame]) -> None:
    frame = cohorts["ham10000"].set_index("image_id")
    lacking = frame.loc["ISIC_0024307"]
    assert pd.isna(lacking["age_years"])
    assert lacking[["sex", "site"]].isna().all()
    assert frame["centre"].tolist() == ["vidir_modern", "rosendahl", "rosendahl", "rosendahl"]
    assert pd.isna(cohorts["isic-2019"].set_index("image_id").loc["ISIC_0024306", "age_years"])
    encoder = Encoder.fit("isic", frame, INDICATOR)
    age = [i for i, owner in enumerate(encoder.attributes) if owner == "age_years"]
    known, lost = (encoder.encode(frame.loc[[name]])[0, age] for name in ("ISIC_0024306", "ISIC_0024307"))
    unknown = np.array(encoder.unknown)[age]
    np.testing.assert_allclose(lost, unknown)
    # 50 is the median: without a column that says so it would be written as an unknown age is.
    assert known[0] == pytest.approx(unknown[0])
    assert np.abs(known - unknown).max() > 0.5
