"""Encoders against hand-worked vectors."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from skinkit.errors import ConfigError
from skinkit.stats.encoders import (
    ENCODERS,
    LEAKY,
    Encoder,
    Standardiser,
    choose_encoder,
    column_names,
    encode_raw,
    missing_attributes,
    radiomic_columns,
)

# Index ranges of the 81 columns as the dataset's documentation lists them, written out once more, by hand.
ORDER = """
smoke False,True | drink False,True
| background_father POMERANIA,GERMANY,BRAZIL,NETHERLANDS,ITALY,POLAND,UNK,PORTUGAL,BRASIL,CZECH,AUSTRIA,SPAIN,ISRAEL
| background_mother POMERANIA,ITALY,GERMANY,BRAZIL,UNK,POLAND,NORWAY,PORTUGAL,NETHERLANDS,FRANCE,SPAIN
| age | pesticide False,True | gender FEMALE,MALE | skin_cancer_history True,False | cancer_history True,False
| has_piped_water True,False | has_sewage_system True,False | fitspatrick 3.0,1.0,2.0,4.0,5.0,6.0
| region ARM,NECK,FACE,HAND,FOREARM,CHEST,NOSE,THIGH,SCALP,EAR,BACK,FOOT,ABDOMEN,LIP | diameter_1 | diameter_2
| itch False,True,UNK | grew False,True,UNK | hurt False,True,UNK | changed False,True,UNK | bleed False,True,UNK
| elevation False,True,UNK
"""
PATIENT = {
    "smoke": "False", "drink": "True", "background_father": "GERMANY", "background_mother": "UNK", "age_years": 55.0,
    "pesticide": "False", "sex": "female", "skin_cancer_history": "True", "cancer_history": "False",
    "has_piped_water": "True", "has_sewage_system": "False", "fitzpatrick": 2.0, "region": "NECK",
    "diameter_1_mm": 6.0, "diameter_2_mm": 5.0, "itch": "True", "grew": "UNK", "hurt": "False", "changed": "True",
    "bleed": "True", "elevation": "False", "site": "head/neck", "biopsed": "True",
}  # fmt: skip
# 1-based reading of the ranges: 0-1 smoke, 2-3 drink, 4-16 father, 17-27 mother, 28 age, 29-30 pesticide, ...
HAND_WORKED = {
    0: 1, 3: 1, 5: 1, 21: 1, 28: 55, 29: 1, 31: 1, 33: 1, 36: 1, 37: 1, 40: 1, 43: 1, 48: 1, 61: 6, 62: 5,
    64: 1, 68: 1, 69: 1, 73: 1, 76: 1, 78: 1,
}  # fmt: skip


def vector(values: dict[int, float], width: int) -> np.ndarray:
    out = np.zeros(width)
    for index, value in values.items():
        out[index] = value
    return out


def test_the_81_columns_stand_in_the_order_of_the_paper() -> None:
    expected = []
    for entry in ORDER.replace("\n", " ").split("|"):
        name, _, values = entry.strip().partition(" ")
        expected += [f"{name}_{value}" for value in values.split(",")] if values else [name]
    assert len(expected) == 81
    assert list(column_names("pad81")) == expected


def test_pad81_of_one_patient_by_hand() -> None:
    raw = encode_raw("pad81", pd.DataFrame([PATIENT]))
    np.testing.assert_array_equal(raw[0], vector(HAND_WORKED, 81))


def test_pad45_is_the_subset_in_the_same_order() -> None:
    names = column_names("pad45")
    assert len(names) == 45
    assert names == tuple(n for n in column_names("pad81") if n in set(names))
    assert names[:3] == ("age", "gender_FEMALE", "gender_MALE")
    assert not {n for n in names if n.startswith(("smoke", "drink", "background", "pesticide", "has_", "diameter"))}
    both = pd.DataFrame([PATIENT])
    chosen = [column_names("pad81").index(n) for n in names]
    np.testing.assert_array_equal(encode_raw("pad45", both), encode_raw("pad81", both)[:, chosen])


def test_isic_of_two_patients_by_hand() -> None:
    frame = pd.DataFrame(
        [{"age_years": 40.0, "sex": "male", "site": "torso"}, {"age_years": np.nan, "sex": None, "site": "elbow"}]
    )
    training = pd.DataFrame({"age_years": [20.0, 60.0, 70.0], "sex": ["male", "female", None], "site": [None] * 3})
    encoder = Encoder.fit("isic", training)
    raw = encoder.encode(frame, scaled=False)
    np.testing.assert_allclose(raw, [[0.4, 1, 0, 0, 0, 0, 1, 0], [0.6, 0.5, 0, 0, 0, 0, 0, 0]])
    # Age of the training rows: mean 0.5, population sd sqrt(0.14 / 3); sex: mean 0.5, sd sqrt(0.5 / 3).
    scaled = encoder.encode(frame)
    assert scaled[0, 0] == pytest.approx(-0.1 / np.sqrt(0.14 / 3))
    assert scaled[0, 1] == pytest.approx(0.5 / np.sqrt(0.5 / 3))
    assert scaled[1, 1] == 0
    assert len(column_names("isic")) == 8
    assert column_names("isic_ordinal") == ("age", "sex", "site")
    ordinal = Encoder.fit("isic_ordinal", training.assign(site=["torso", "head/neck", "upper extremity"]))
    np.testing.assert_allclose(ordinal.encode(frame, scaled=False), [[0.4, 1, 4], [0.6, 0.5, 4]])  # median of 4, 0, 5
    assert ordinal.attributes == ("age_years", "sex", "site")


def test_derm7pt_has_14_columns_and_20_where_it_leaks() -> None:
    case = {"sex": "female", "derm7pt__location": "lower limbs", "derm7pt__elevation": "nodular"}
    frame = pd.DataFrame([case, {**case, "derm7pt__management": "excision", "derm7pt__elevation": "flat"}])
    assert choose_encoder(frame) == "derm7pt"
    assert choose_encoder(frame.assign(derm7pt__location=None, elevation="True")) == "pad81"
    raw = Encoder.fit("derm7pt", frame).encode(frame, scaled=False)
    assert raw.shape == (2, 14)
    assert raw[0].nonzero()[0].tolist() == [0, 9, 13]  # sex of 2, location of 9, elevation of 3
    leaky = Encoder.fit("derm7pt_leaky", frame)
    assert leaky.encode(frame, scaled=False).shape == (2, 20)
    assert set(LEAKY) <= set(ENCODERS)


def test_what_is_unknown_is_zero_before_scaling() -> None:
    raw = Encoder.fit("pad81", pd.DataFrame([PATIENT])).encode(pd.DataFrame([{"age_years": None}]), scaled=False)
    np.testing.assert_array_equal(raw, np.zeros((1, 81)))


def test_biopsy_is_never_an_attribute() -> None:
    for name in tuple(ENCODERS):
        assert not [column for column in column_names(name) if "biops" in column]


def test_scaling_is_fitted_on_training_rows_and_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    rows = [{**PATIENT, "age_years": float(a), "region": r, "smoke": s} for a, r, s in zip(
        rng.integers(6, 94, 40), rng.choice(["NECK", "FACE", None], 40), rng.choice(["True", "False"], 40), strict=True
    )]  # fmt: skip
    training, other = pd.DataFrame(rows[:30]), pd.DataFrame(rows[30:])
    encoder = Encoder.fit("pad81", training)
    reference = StandardScaler().fit(encode_raw("pad81", training))
    np.testing.assert_allclose(encoder.encode(other), reference.transform(encode_raw("pad81", other)), atol=1e-12)


def test_a_constant_column_is_left_at_zero() -> None:
    values = np.array([[0.1, 1.0]] * 3) * 3
    fitted = Standardiser.fit(["a", "b"], values, [0.0, 0.0])
    np.testing.assert_allclose(fitted.apply(values), 0, atol=1e-12)
    np.testing.assert_allclose(fitted.apply(values + 1), 1)


def test_imputing_takes_the_training_median() -> None:
    fitted = Standardiser.fit(["a"], np.array([[1.0], [np.nan], [3.0], [8.0]]), [None])
    assert fitted.fill == (3.0,)
    assert fitted.apply(np.array([[np.nan], [np.inf]])).ravel().tolist() == pytest.approx([
        (3 - 3.75) / np.std([1, 3, 3, 8])
    ] * 2)  # fmt: skip
    assert Standardiser.fit(["a"], np.full((2, 1), np.nan), [None]).fill == (0.0,)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_json_round_trip(name: str) -> None:
    frame = pd.DataFrame([PATIENT, {**PATIENT, "age_years": 30.0, "sex": "male", "region": "LIP"}])
    encoder = Encoder.fit(name, frame)
    again = Encoder.from_dict(json.loads(json.dumps(encoder.as_dict())))
    assert again == encoder
    assert len(encoder.attributes) == len(encoder.columns)
    np.testing.assert_array_equal(again.encode(frame), encoder.encode(frame))


POLICY_ROWS = pd.DataFrame(
    {
        "age_years": [50.0, None, 70.0, 61.0],
        "smoke": ["True", None, "False", "True"],
        "region": ["NECK", "MOON", None, "ARM"],  # a word the encoder does not know is unknown, too
        "itch": ["True", None, "UNK", "False"],
    }
)


def _columns(encoder: Encoder, *names: str) -> np.ndarray:
    values = encoder.encode(POLICY_ROWS, scaled=False)
    return values[:, [encoder.columns.index(name) for name in names]]


def test_an_indicator_says_what_is_unknown_and_changes_nothing_else() -> None:
    encoder = Encoder.fit("pad81", POLICY_ROWS, "indicator")
    assert len(encoder.columns) == 81 + 21
    assert encoder.columns[:81] == column_names("pad81")
    assert encoder.columns[81:83] == ("smoke_missing", "drink_missing")
    plain = Encoder.fit("pad81", POLICY_ROWS).encode(POLICY_ROWS, scaled=False)
    np.testing.assert_array_equal(encoder.encode(POLICY_ROWS, scaled=False)[:, :81], plain)
    flags = _columns(encoder, "age_missing", "smoke_missing", "region_missing", "itch_missing", "drink_missing")
    expected = [[0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(flags, expected)
    assert encoder.attributes[81:] == tuple(dict.fromkeys(encoder.attributes[:81]))
    # Smoke differs among these rows in its flag as well; what is unknown of everyone can teach nothing.
    assert encoder.reads == ("smoke", "age_years", "region", "itch")


def test_median_fills_numbers_and_makes_unknown_a_category() -> None:
    encoder = Encoder.fit("pad81", POLICY_ROWS, "median")
    np.testing.assert_array_equal(_columns(encoder, "age")[:, 0], [50, 61, 70, 61])
    # Native UNK takes what is missing; smoke and region have none and get a column of their own.
    np.testing.assert_array_equal(_columns(encoder, "itch_False", "itch_True", "itch_UNK")[1:3], [[0, 0, 1]] * 2)
    np.testing.assert_array_equal(_columns(encoder, "smoke_unknown")[:, 0], [0, 1, 0, 0])
    np.testing.assert_array_equal(_columns(encoder, "region_unknown")[:, 0], [0, 1, 1, 0])
    assert "itch_unknown" not in encoder.columns
    assert "age_unknown" not in encoder.columns
    assert len(encoder.columns) == 81 + 10
    isic = Encoder.fit("isic", pd.DataFrame({"age_years": [40.0, None], "sex": [None, "male"]}), "median")
    row = isic.encode(pd.DataFrame({"age_years": [None], "sex": [None]}), scaled=False)[0]
    np.testing.assert_array_equal(row, [0.4, 0.5, 0, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("policy", ["zeros", "indicator", "median"])
def test_the_policy_goes_with_the_encoder_and_old_ones_load(policy: str) -> None:
    encoder = Encoder.fit("pad81", POLICY_ROWS, policy)
    saved = json.loads(json.dumps(encoder.as_dict()))
    assert Encoder.from_dict(saved) == encoder
    assert saved["missing"] == policy
    blank = encoder.encode(pd.DataFrame(index=[0]))
    np.testing.assert_array_equal(encoder.unknown, blank[0])
    assert blank.shape == (1, len(encoder.columns)) == (1, len(encoder.attributes))
    if policy == "zeros":
        del saved["missing"]
        assert Encoder.from_dict(saved) == encoder
        assert encoder.columns == column_names("pad81")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        Encoder.fit("pad81", POLICY_ROWS, "medain")
    assert "median" in error.value.expected


def test_missing_attributes_are_named() -> None:
    assert missing_attributes(PATIENT, "pad81") == []
    assert missing_attributes({**PATIENT, "region": "CHIN", "age_years": np.nan}, "pad81") == ["age_years", "region"]
    assert missing_attributes({"sex": "male", "age_years": 3.0}, "isic") == ["site"]
    assert missing_attributes({}, "none") == []


def test_attributes_that_never_differed_in_training_are_not_read() -> None:
    rows = pd.DataFrame([{**PATIENT, "smoke": None}, {**PATIENT, "smoke": None, "age_years": 3.0, "region": None}])
    encoder = Encoder.fit("pad81", rows)
    assert encoder.reads == ("age_years", "region")
    assert missing_attributes({}, "pad81", encoder.reads) == ["age_years", "region"]


def test_auto_looks_for_pad_attributes() -> None:
    isic = pd.DataFrame({"age_years": [3.0], "sex": ["male"], "region": [None], "itch": [None]})
    assert choose_encoder(isic) == "isic"
    assert choose_encoder(isic.assign(itch="UNK")) == "pad81"


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="pad8"):
        column_names("pad8")


def test_radiomic_columns() -> None:
    names = ["age_years", "original_firstorder_Mean", "lab_l_original_glcm_Contrast", "keep__original", "aboriginal_x"]
    assert radiomic_columns(names) == ["original_firstorder_Mean", "lab_l_original_glcm_Contrast"]


@pytest.mark.real
def test_the_whole_table_encodes_without_a_word_left_over(real_data: object) -> None:
    frame = pd.read_csv(f"{real_data}/pad/metadata.csv", dtype=str)
    frame = frame.rename(columns={"gender": "sex", "fitspatrick": "fitzpatrick", "age": "age_years"})
    frame = frame.rename(columns={"diameter_1": "diameter_1_mm", "diameter_2": "diameter_2_mm"})
    frame["sex"] = frame["sex"].str.lower()
    raw = encode_raw("pad81", frame.astype(object).where(frame.notna(), None))
    assert raw.shape == (2298, 81)
    names = list(column_names("pad81"))
    numbers = ("age", "diameter_1", "diameter_2")
    attributes = {n.rpartition("_")[0] for n in names if n not in numbers}
    for attribute in attributes:
        column = {"gender": "sex", "fitspatrick": "fitzpatrick"}.get(attribute, attribute)
        ones = raw[:, [i for i, n in enumerate(names) if n.rpartition("_")[0] == attribute]].sum(axis=1)
        np.testing.assert_array_equal(ones, frame[column].notna().astype(float))
    assert int(np.isnan(raw[:, names.index("diameter_1")]).sum()) == 804
