"""The leakage guard finds what was planted, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skinkit.audit import leakage
from skinkit.data import phantoms
from skinkit.errors import RefusedError
from skinkit.images import decode, encode, identity


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


def test_a_copy_is_told_from_another_lesion_by_looking(tmp_path: Path) -> None:
    """A re-encoded, brighter, smaller copy is the same picture; another lesion with a close hash is not."""
    rng = np.random.default_rng(0)
    rgb, _ = phantoms.draw(rng, "nevus", phantoms._SKIN[0], phantoms.Hospital("A"))
    copy = encode.resize(np.clip(rgb * 1.15, 0, 255).astype(np.uint8), (48, 48))
    other, _ = phantoms.draw(np.random.default_rng(1), "melanoma", phantoms._SKIN[2], phantoms.Hospital("A"))
    files = {"a": rgb, "b": copy, "c": other}
    for name, picture in files.items():
        (tmp_path / f"{name}.jpg").write_bytes(encode.jpeg_bytes(picture, 80))
    hashes = {name: identity.dhash(decode.read_rgb(tmp_path / f"{name}.jpg")) for name in files}
    ours = side("a", [{"dhash": hashes["a"]}])
    paths = {("bb", hashes[n]): tmp_path / f"{n}.jpg" for n in ("b", "c")} | {("a", hashes["a"]): tmp_path / "a.jpg"}
    found = {}
    for name in ("b", "c"):
        candidates = leakage.check(ours, side("bb", [{"dhash": hashes[name]}]), near_distance_bits=64)
        found[name] = leakage.look_at(candidates, lambda cohort, dhash: paths.get((cohort, dhash)))
    assert found["b"].pairs["kind"].tolist() == ["near_identical"]
    assert found["b"].pairs["correlation"].iloc[0] > leakage.SAME_PICTURE
    assert found["c"].pairs["kind"].tolist() == ["alike"]
    assert found["c"].cases == 0
    unseen = leakage.check(ours, side("bb", [{"dhash": hashes["b"]}]))
    assert leakage.look_at(unseen, lambda cohort, dhash: None).pairs.equals(unseen.pairs)
