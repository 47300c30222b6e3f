"""DermaCalibra (Wang et al. 2026): phone photo and 81 columns of metadata, recalibrated by their uncertainty.

Its Tables 1 to 6 are not at hand as tables; the numbers here are those its text prints. Everything else of a part is
ours alone.
"""

from __future__ import annotations

from skinkit.studies import Arm, Exhibit, Protocol, Published, Study, Wanted

_OWN = "derma_calibra"
_PRESET = "dermacalibra"

_ARMS = (
    Arm("baseline", "Pundhir v1", "pundhir", "visual"),
    Arm("fusion", "with MDFM-CAF", _OWN, _PRESET, settings={"amcr": False, "fusion": True}, extends=("baseline",)),
    Arm("amcr", "with AMCR", _OWN, _PRESET, settings={"amcr": True, "fusion": False}, extends=("baseline",)),
    Arm(
        "full",
        "with both",
        _OWN,
        _PRESET,
        settings={"amcr": True, "fusion": True},
        extends=("fusion", "amcr"),
    ),
)

_COMPARATORS = (
    Arm("image", "image alone", "concat", _PRESET, attributes="none"),
    Arm("concat", "concatenation", "concat", _PRESET),
    Arm("metanet", "MetaNet", "metanet", _PRESET),
    Arm("metablock", "MetaBlock", "metablock", _PRESET),
    Arm("khurshid", "Khurshid", "khurshid", "khurshid2024"),
    Arm("logistic", "metadata, logistic regression", "logistic", radiomics="none"),
    Arm("lightgbm", "metadata, boosted trees", "lightgbm", radiomics="none"),
    Arm("frozen_probe", "frozen ResNet-50 and metadata", "frozen_probe"),
)

_COHORTS = (
    Wanted("pad", "development", "pad-ufes-20", "PAD-UFES-20 as downloaded"),
    Wanted("changzhou", "external", "", "20 phone photos of a hospital in Changzhou; not public"),
    Wanted("ham10000", "external", "ham10000-pad", "2,000 images of HAM10000 with metadata drawn from PAD"),
    Wanted("isic-2019", "external", "isic-2019-pad", "5,000 images of ISIC 2019 with metadata drawn from PAD"),
)

_PROTOCOLS = (
    Protocol("grouped", {"folds": 5, "seed": 8}, "five folds, patients kept together"),
    Protocol(
        "metablock",
        {"protocol": "metablock"},
        "the folders of MetaBlock: image by image within each class, sixth fold the test set",
        leaks="the protocol of DermaCalibra: 212 of its 383 test images show a patient of the training images",
    ),
)

_LEAKING = "212 of the paper's 383 test images share a patient with its development images, 112 the same lesion"

_PARTS = (
    Exhibit(
        "table1",
        "Table 1: the test set",
        "ablation",
        f"{_LEAKING}; the released code chooses the epoch by the test set",
    ),
    Exhibit("table2", "Table 2: accuracy, sensitivity and specificity by class", "by_class", _LEAKING),
    Exhibit(
        "table3",
        "Table 3: external sets",
        "external",
        "61 to 64 of the 81 metadata columns of both public sets are drawn at random; the published test code turns "
        "predictions of SCC into nevi on HAM10000 and refits the scaler on the set",
    ),
    Exhibit("table4", "Table 4: what each module adds", "ablation", _LEAKING),
    Exhibit(
        "fig5",
        "Fig. 5: attributions over pixels and metadata",
        "explanation",
        "the paper's baselines are zeros after normalisation: the mean colour and the mean patient",
    ),
    Exhibit("fig3", "Fig. 3: which class is taken for which", "confusion"),
)


def _published() -> tuple[Published, ...]:
    measured = {"pad": (0.842, 0.856, 0.969), "changzhou": (0.917, 0.850, 0.988),
                "ham10000": (0.783, 0.754, 0.938), "isic-2019": (0.716, 0.704, 0.875)}  # fmt: skip
    words = ("all balanced_accuracy macro @ argmax", "all accuracy @ argmax", "all auroc macro")
    found = [
        Published("table1" if cohort == "pad" else "table3", cohort, "full", word, value)
        for cohort, values in measured.items()
        for word, value in zip(words, values, strict=True)
    ]
    found += [
        Published("table1", "pad", "baseline", words[0], 0.806),
        Published("table1", "pad", "khurshid", words[0], 0.811),
        Published("table2", "pad", "full", "SCC sensitivity @ argmax", 0.563),
    ]
    return tuple(found)


STUDY = Study(
    name="dermacalibra",
    title="DermaCalibra: A Robust and Explainable Multimodal Framework",
    citation="B. Wang et al., Diagnostics 16(4), 630, 2026, PMC12938916",
    classes="pad6",
    malignant="pad",
    preset=_PRESET,
    cohorts=_COHORTS,
    protocols=_PROTOCOLS,
    arms=_ARMS,
    comparators=_COMPARATORS,
    parts=_PARTS,
    published=_published(),
    remarks=(
        _LEAKING,
        "rows without the patient block hold no BCC, MEL or SCC: what is missing tells the class",
        "the released code differs from the paper in every module; the arms follow the paper",
        "the Changzhou photos are not public",
    ),
)
