"""The leakage guard finds what was planted, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_cohort
import written_artifacts
from PIL import Image, ImageDraw

from skinkit.artifacts.artifact import open_artifact
from skinkit.audit import leakage
from skinkit.data import phantoms
from skinkit.errors import RefusedError
from skinkit.images import decode, encode, identity
from skinkit.workspace import Ref


def side(cohort: str, rows: list[dict[str, Any]], space: str = "pad") -> pd.DataFrame:
    """Cases with unique ids and hashes except where a row says otherwise."""
    full = []
    for i, row in enumerate(rows):
        stem = f"{cohort}{i}"
        patient = row.get("patient_id", f"P-{stem}")
        full.append(
            {
                "cohort": cohort,
                "case_id": stem,
                "patient_id": patient,
                "lesion_id": f"L-{stem}",
                "group_id": f"{space}:patient:{patient}",
                "image_sha256": f"file-{stem}",
                "pixel_sha256": f"pixels-{stem}",
                "dhash": f"{int(np.random.default_rng([len(cohort), i]).integers(2**63)):016x}",
                **row,
            }
        )
    return pd.DataFrame(full)


def test_nothing_shared_is_nothing_found() -> None:
    found = leakage.check(side("a", [{}, {}, {}]), side("bb", [{}, {}]))
    assert found.cases == 0
    assert found.compared == (
        "case", "patient", "lesion", "image", "group", "file", "pixels", "near_identical", "alike",
    )  # fmt: skip
    assert set(found.counts.values()) == {0}
    leakage.refuse(found, "", "a and bb")


@pytest.mark.parametrize(
    ("kind", "planted"),
    [
        ("patient", {"patient_id": "P-bb1"}),
        ("lesion", {"lesion_id": "L-bb1"}),
        ("file", {"image_sha256": "file-bb1"}),
        ("pixels", {"pixel_sha256": "pixels-bb1"}),
    ],
)
def test_each_kind_is_found_where_it_was_planted(kind: str, planted: dict[str, str]) -> None:
    found = leakage.check(side("a", [{}, planted, {}]), side("bb", [{}, {}]))
    assert found.cases == 1
    assert {k for k, n in found.counts.items() if n} == {kind}
    pair = found.pairs.iloc[0]
    assert (pair["cohort"], pair["case_id"], pair["other_cohort"], pair["other_case_id"]) == ("a", "a1", "bb", "bb1")
    with pytest.raises(RefusedError) as refused:
        leakage.refuse(found, "", "a and bb")
    assert "a/a1 and bb/bb1" in refused.value.found
    assert refused.value.exit_code == 5
    assert "--allow-leakage" in refused.value.fix
    leakage.refuse(found, "the ids were reused, checked by hand", "a and bb")


def test_the_same_case_is_told_as_such() -> None:
    rows = side("a", [{}, {}])
    found = leakage.check(rows, rows.iloc[:1])
    assert found.counts["case"] == 1
    assert found.pairs.iloc[0]["kind"] == "case"


def test_ids_of_another_id_space_are_other_people() -> None:
    planted = {"patient_id": "17", "lesion_id": "3"}
    here, elsewhere = side("a", [planted], space="jinan"), side("bb", [planted], space="pad")
    assert leakage.check(here, elsewhere).cases == 0
    assert leakage.check(here, side("bb", [planted], space="jinan")).counts["patient"] == 1


def test_ids_are_compared_as_they_are_where_one_side_has_no_id_space() -> None:
    ours, theirs = side("a", [{"patient_id": "17"}]), side("bb", [{"patient_id": "17"}], space="jinan")
    assert leakage.check(ours.drop(columns="group_id"), theirs).counts["patient"] == 1


def test_a_lesion_is_recognised_when_only_one_side_knows_the_patient() -> None:
    ours = side("a", [{"patient_id": None, "lesion_id": "L7", "group_id": "pad:lesion:L7"}])
    theirs = side("bb", [{"lesion_id": "L7"}])
    found = leakage.check(ours, theirs)
    assert {k for k, n in found.counts.items() if n} == {"lesion"}


def test_an_image_of_an_archive_is_recognised_by_its_id_in_another_size() -> None:
    nobody = {"patient_id": None, "image_id": "ISIC_1", "case_id": "ISIC_1"}
    ours = side("a", [{**nobody, "lesion_id": None, "group_id": "isic:image:ISIC_1"}])
    theirs = side("bb", [{**nobody, "lesion_id": "HAM_7", "group_id": "isic:lesion:HAM_7"}])
    assert leakage.check(ours, theirs).counts["image"] == 1
    assert leakage.check(ours, theirs.drop(columns="image_id")).counts["image"] == 1
    two = [side(c, [{"patient_id": p, "image_id": "IMG_1"}]) for c, p in (("a", "1"), ("bb", "2"))]
    assert leakage.check(*two).cases == 0


def test_joined_groups_follow_every_chain() -> None:
    cases = pd.DataFrame(
        {
            "cohort": ["a"] * 6,
            "case_id": list("uvwxyz"),
            "group_id": ["s:patient:1", "s:patient:2", "s:patient:3", "s:lesion:L", "s:patient:4", "t:patient:4"],
            "patient_id": ["1", "2", "3", None, "4", "4"],
            "lesion_id": ["K", "L", "M", "L", "N", "N"],
            "pixel_sha256": ["p", "q", "p", "r", "s", "t"],
        }
    )
    # Patients 1 and 3 share an image; patient 2 has the lesion of somebody unknown; the two patients 4 are strangers.
    joined = leakage.joined_groups(cases)
    assert joined.tolist() == ["s:patient:1", "s:lesion:L", "s:patient:1", "s:lesion:L", "s:patient:4", "t:patient:4"]
    assert leakage.joined_groups(cases, "lesion").nunique() == 4
    assert leakage.joined_groups(cases, "image").nunique() == 5
    named = cases.assign(image_id=["1", "2", "3", "4", "5", "2"])
    assert leakage.joined_groups(named).tolist() == joined.tolist()
    named = cases.assign(image_id=["1", "2", "3", "1", "5", "6"], group_id=cases["group_id"].str.replace("t:", "s:"))
    assert leakage.joined_groups(named).nunique() == 2


def test_unknown_ids_are_not_equal_to_each_other() -> None:
    unknown = {"patient_id": None, "lesion_id": None, "image_sha256": None, "pixel_sha256": None, "dhash": None}
    ours = side("a", [{**unknown, "group_id": "x:image:1"}, {**unknown, "group_id": "x:image:2"}])
    theirs = side("bb", [{**unknown, "group_id": "x:image:2"}])
    found = leakage.check(ours, theirs)
    assert found.compared == ("case", "image", "group")
    assert found.pairs["shared"].tolist() == ["x:image:2"]


def test_alike_images_are_reported_and_not_refused() -> None:
    theirs = side("bb", [{"dhash": "00000000ffff0000"}, {"dhash": "0f0f0f0f0f0f0f0f"}, {"dhash": "000000000000007f"}])
    ours = side(
        "a",
        [
            {"dhash": "00000000fff00000"},  # 4 bits from the first
            {"dhash": "00000000ffe00000"},  # 5 bits
            {"dhash": "0f0f0f0f0f0f0f0f", "pixel_sha256": "pixels-bb1"},  # identical, not near-identical
            {"dhash": "000000000000007f"},  # too even a picture to say
        ],
    )
    found = leakage.check(ours, theirs)
    near = found.pairs[found.pairs["kind"] == leakage.ALIKE]
    assert near[["case_id", "other_case_id", "distance_bits"]].values.tolist() == [["a0", "bb0", 4]]
    assert found.counts["pixels"] == 1
    leakage.refuse(leakage.check(ours.iloc[:2], theirs), "", "a and bb")
    assert leakage.check(ours, theirs, near_distance_bits=-1).counts.get(leakage.NEAR) is None


def test_near_identical_search_agrees_with_counting_bits_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "_CHUNK_PAIRS", 70)
    rng = np.random.default_rng(0)
    base = rng.integers(2**63, size=30)
    flips = np.array([sum(1 << int(bit) for bit in rng.choice(63, k, replace=False)) for k in rng.integers(1, 9, 30)])
    theirs = side("bb", [{"dhash": f"{int(v):016x}"} for v in base])
    ours = side("a", [{"dhash": f"{int(v):016x}"} for v in base ^ flips])
    found = leakage.check(ours, theirs)
    expected = {
        i: min(bin(int(x) ^ int(y)).count("1") for y in base)
        for i, x in enumerate(base ^ flips)
        if min(bin(int(x) ^ int(y)).count("1") for y in base) <= 4
    }
    near = found.pairs[found.pairs["kind"].isin((leakage.NEAR, leakage.ALIKE))]
    assert expected
    assert (near["kind"] == leakage.NEAR).tolist() == (near["distance_bits"] <= leakage.UNSEEN_BITS).tolist()
    assert dict(zip(near["case_id"], near["distance_bits"], strict=True)) == {f"a{i}": d for i, d in expected.items()}


def test_only_ten_pairs_are_listed_but_all_are_counted() -> None:
    ours = side("a", [{"patient_id": f"Q{i}"} for i in range(25)])
    theirs = side("bb", [{"patient_id": f"Q{i}"} for i in range(25)])
    with pytest.raises(RefusedError) as refused:
        leakage.refuse(leakage.check(ours, theirs), "  ", "a and bb")
    assert "share 25 cases" in refused.value.found
    assert refused.value.found.count("; ") == 9
    assert "and 15 more" in refused.value.found


def test_joined_comparisons_count_a_case_once() -> None:
    ours, theirs = side("a", [{"patient_id": "Q"}]), side("bb", [{"patient_id": "Q"}])
    once = leakage.check(ours, theirs)
    twice = leakage.joined(once, leakage.check(ours, theirs))
    assert twice.counts == once.counts
    assert twice.as_dict()["pairs"][0]["shared"] == "Q"
    assert leakage.joined().cases == 0


def test_near_identical_images_are_refused_above_the_limit() -> None:
    theirs = side("bb", [{"dhash": "00000000ffff0000"}, {"dhash": "0f0f0f0f0f0f0f0f"}])
    ours = side("a", [{"dhash": "00000000fffc0000"}, {"dhash": "0f0f0f0f0f0f0f0e"}, {"dhash": "123456789abcdef0"}])
    found = leakage.check(ours, theirs)
    assert found.counts["near_identical"] == found.cases == 2
    with pytest.raises(RefusedError) as refused:
        leakage.refuse(found, "", "a and bb")
    assert "a/a0 and bb/bb0 (near-identical images 2 of 64 bits apart, not looked at)" in refused.value.found
    assert "--near-limit" in refused.value.fix
    leakage.refuse(found, "one photographer, checked by hand", "a and bb")
    tolerated = leakage.check(ours, theirs, near_limit=2)
    leakage.refuse(tolerated, "", "a and bb")
    assert (tolerated.cases, tolerated.counts["near_identical"], len(tolerated.pairs)) == (0, 2, 2)


def drawn(seed: int) -> np.ndarray[Any, Any]:
    """A lesion on skin with hairs, light from one side and a mottled background."""
    rng = np.random.default_rng(seed)
    rgb, _ = phantoms.draw(rng, "nevus", phantoms._SKIN[seed % 4], phantoms.Hospital("A"))
    mottled = Image.fromarray(rng.normal(0, 12, (24, 32)).astype(np.float32)).resize(rgb.shape[1::-1])
    picture = Image.fromarray(np.clip(rgb + np.asarray(mottled)[..., None], 0, 255).astype(np.uint8))
    hairs = ImageDraw.Draw(picture)
    for _ in range(6):
        hairs.line([tuple(rng.uniform(0, rgb.shape[1], 2)) for _ in range(2)], (50, 40, 30), 2)
    return np.asarray(picture)


def photographed(folder: Path, cohort: str, pictures: list[np.ndarray[Any, Any]]) -> pd.DataFrame:
    """Cases whose photos lie in a folder, with their hashes."""
    rows = []
    for picture in pictures:
        (folder / f"{identity.pixel_sha256(picture)}.png").write_bytes(encode.png_bytes(picture))
        rows.append({"dhash": identity.dhash(picture), "pixel_sha256": identity.pixel_sha256(picture)})
    return side(cohort, rows)


def in_folder(folder: Path) -> leakage.ComparedPhotos:
    return leakage.ComparedPhotos(lambda cohort, pixels: file if (file := folder / f"{pixels}.png").is_file() else None)


def turned(picture: np.ndarray[Any, Any], quarters: int, mirrored: bool) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(np.rot90(picture[:, ::-1] if mirrored else picture, quarters))


def test_mirrored_and_turned_copies_are_found(tmp_path: Path) -> None:
    originals = [drawn(i) for i in range(8)]
    copies = [turned(p, i % 4, i >= 4) for i, p in enumerate(originals)]
    small = [encode.resize(p, (p.shape[1] // 2, p.shape[0] // 2)) for p in copies[1:]]
    theirs = photographed(tmp_path, "bb", [drawn(i) for i in range(20, 30)] + originals)
    ours = photographed(tmp_path, "a", [*small, drawn(50)])
    photos = in_folder(tmp_path)
    found = leakage.verified_on_photos(leakage.check(ours, theirs, photos), photos)
    pairs = found.pairs.sort_values("case_id")
    assert pairs["kind"].tolist() == ["near_identical"] * 7
    assert pairs["other_case_id"].tolist() == [f"bb{i}" for i in range(11, 18)]
    assert (pairs["correlation"] > leakage.copies.SAME_PICTURE).all()
    with pytest.raises(RefusedError):
        leakage.refuse(found, "", "a and bb")
    # A table that knows the published hash alone still finds what is not turned by a quarter.
    older = theirs.assign(dhash=theirs["dhash"].str[:16])
    assert leakage.check(ours, older, near_distance_bits=4).counts["near_identical"] >= 6
    neither = leakage.check(ours.assign(dhash=ours["dhash"].str[:16]), older)
    assert set(neither.pairs["other_case_id"]) == {"bb12", "bb14", "bb16"}


lite = pytest.mark.skipif(bool(leakage.copies.missing()), reason=leakage.copies.missing())


def cropped(picture: np.ndarray[Any, Any], share: float, x: float = 0.5, y: float = 0.5) -> np.ndarray[Any, Any]:
    h, w = picture.shape[:2]
    top, left = round((1 - share) * h * y), round((1 - share) * w * x)
    return picture[top : top + round(share * h), left : left + round(share * w)].copy()


def tilted(picture: np.ndarray[Any, Any], degrees: float) -> np.ndarray[Any, Any]:
    return np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC))


@lite
def test_cropped_bordered_and_tilted_copies_are_found_and_pictured(tmp_path: Path) -> None:
    originals = [drawn(i) for i in range(6)]
    copies = [
        cropped(originals[0], 0.9),
        cropped(originals[1], 0.85, 0, 1),
        np.pad(originals[2], ((15, 15), (15, 15), (0, 0))),
        tilted(originals[3], 5),
        turned(cropped(originals[4], 0.9, 1, 0), 1, True),
        np.pad(cropped(originals[5], 0.95), ((9, 9), (9, 9), (0, 0)), constant_values=255),
    ]
    theirs = photographed(tmp_path, "bb", originals + [drawn(i) for i in range(20, 34)])
    ours = photographed(tmp_path, "a", [*copies, *(drawn(i) for i in range(50, 56))])
    store = tmp_path / "cache"
    photos = leakage.ComparedPhotos(in_folder(tmp_path).find, store)
    found = leakage.verified_on_photos(leakage.check(ours, theirs, photos), photos)
    pairs = found.pairs[found.pairs["kind"] == leakage.NEAR].sort_values("case_id")
    assert pairs["case_id"].tolist() == [f"a{i}" for i in range(6)]
    assert pairs["other_case_id"].tolist() == [f"bb{i}" for i in range(6)]
    assert found.search is not None
    assert (found.search.photos, found.search.others, found.search.reason) == ((12, 12), (20, 20), "")
    assert "cropped" in found.limits()
    assert found.as_dict()["copies"]["not_looked_for"] == []
    assert found.sheet is not None
    assert decode.read_rgb(found.sheet).shape[1] > 900
    with pytest.raises(RefusedError) as refused:
        leakage.refuse(found, "", "a and bb")
    assert str(found.sheet) in refused.value.fix
    # What is known already is not computed again, and photos of one patient are no copies of each other.
    again = leakage.ComparedPhotos(lambda cohort, pixels: None, store)
    assert again.embeddings([("a", pixels) for pixels in ours["pixel_sha256"]])[1].all()
    patients = theirs["patient_id"].tolist()[:6] + ours["patient_id"].tolist()[6:]
    mine = ours.assign(patient_id=patients)
    assert leakage.verified_on_photos(leakage.check(mine, theirs, photos), photos).counts[leakage.NEAR] == 0


@lite
def test_a_split_refuses_a_cropped_copy_under_another_patient(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "ws", patients=12)
    cases = open_artifact(workspace.path(Ref("cases", "clinic"))).table()
    rows = cases.astype(object).where(cases.notna(), None).to_dict("records")
    theirs, mine = rows[0], rows[-1]
    photo = drawn(3)
    for row, picture in ((theirs, photo), (mine, cropped(photo[:, ::-1], 0.9, 1, 0))):
        Image.fromarray(picture).save(workspace.root / "clinic" / str(row["image_path"]))
        row |= {"pixel_sha256": identity.pixel_sha256(picture), "dhash": identity.dhash(picture)}
    written_artifacts.write_cases(workspace, "clinic", rows)
    # In one of the two folds the last patient is held out and the first is not, or the other way round.
    parts = "case_id,fold,part\n" + "".join(
        f"{row['case_id']},{fold},{'test' if (row['patient_id'] >= 'P06') == bool(fold) else 'train'}\n"
        for row in rows
        for fold in (0, 1)
    )
    (workspace.root / "parts.csv").write_text(parts, encoding="utf-8")
    with pytest.raises(RefusedError) as refused:
        written_artifacts.run_stage(workspace, "split", import_file=str(workspace.root / "parts.csv"))
    assert {str(mine["case_id"]), str(theirs["case_id"])} <= set(re.split(r"[/ ]", refused.value.found))
    assert list((workspace.root / "cache" / "copies").glob("pairs-*.png"))


@lite
@pytest.mark.real
def test_copies_of_real_photos_are_found(real_data: Path, tmp_path: Path) -> None:
    files = sorted((real_data / "pad" / "images").iterdir())[::60][:14]
    originals = [decode.read_rgb(file) for file in files]
    copies = [
        cropped(originals[0], 0.9, 0, 1),
        tilted(originals[1], 5),
        turned(cropped(originals[2], 0.9), 1, True),
        np.pad(originals[3], ((40, 40), (40, 40), (0, 0))),
        decode.read_rgb(_jpeg(tmp_path / "copy.jpg", encode.resize(originals[4], (160, 160)))),
    ]
    ours = photographed(tmp_path, "a", [*copies, *originals[10:]])
    theirs = photographed(tmp_path, "bb", originals[:10])
    photos = in_folder(tmp_path)
    found = leakage.verified_on_photos(leakage.check(ours, theirs, photos), photos)
    near = found.pairs[found.pairs["kind"] == leakage.NEAR].sort_values("case_id")
    assert near["case_id"].tolist() == [f"a{i}" for i in range(5)]
    assert near["other_case_id"].tolist() == [f"bb{i}" for i in range(5)]


def test_the_guard_says_what_it_cannot_see(tmp_path: Path) -> None:
    ours, theirs = photographed(tmp_path, "a", [drawn(1)]), side("bb", [{}, {}])
    photos = in_folder(tmp_path)
    absent = leakage.verified_on_photos(leakage.check(ours, theirs, photos), photos)
    assert absent.search is not None
    assert absent.search.reason
    for found in (absent, leakage.check(ours, theirs)):
        assert "NOT looked for" in found.limits()
        assert "cropped to 90 %" in " ".join(found.as_dict()["copies"]["not_looked_for"])
    assert leakage.copies.Search(why_not="torch is not installed").reason == "torch is not installed"
    nothing = leakage.check(ours, theirs, near_distance_bits=-1)
    assert nothing.as_dict()["copies"] is None
    assert nothing.limits() == "copies of photos were not looked for"


def test_a_copy_is_told_from_another_lesion_by_looking(tmp_path: Path) -> None:
    """A re-encoded, brighter, smaller copy is the same picture; another lesion with a close hash is not."""
    rgb, other = drawn(0), drawn(1)
    small = encode.resize(np.clip(rgb * 1.15, 0, 255).astype(np.uint8), (120, 90))
    copy = decode.read_rgb(_jpeg(tmp_path / "copy.jpg", small))
    ours, photos = photographed(tmp_path, "a", [rgb]), in_folder(tmp_path)
    for name, picture, kinds in (("bb", copy, ["near_identical"]), ("ccc", other, [])):
        theirs = photographed(tmp_path, name, [picture])
        candidates = leakage.check(ours, theirs, photos, near_distance_bits=64)
        assert len(candidates.pairs) == 1
        found = leakage.verified_on_photos(candidates, photos)
        assert found.pairs["kind"].tolist() == kinds
        assert found.cases == len(kinds)
    unseen = leakage.check(ours, photographed(tmp_path, "bb", [copy]))
    nowhere = leakage.ComparedPhotos(lambda cohort, pixels: None)
    assert leakage.verified_on_photos(unseen, nowhere).pairs.equals(unseen.pairs)


def _jpeg(path: Path, picture: np.ndarray[Any, Any]) -> Path:
    path.write_bytes(encode.jpeg_bytes(picture, 80))
    return path
