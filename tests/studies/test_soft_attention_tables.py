"""Soft attention on derm7pt: what the paper prints beside its own figures."""

from __future__ import annotations

import pytest

from skinkit.reporting import reproduction
from skinkit.studies import load_study


@pytest.mark.parametrize(
    ("who", "accuracy"),
    [
        ("Alzahrani 2019", "0.667"), ("EmbeddingNet, Yap 2018", "0.717"), ("TripleNet, Ge 2017", "0.727"),
        ("Kawahara 2018", "0.737"), ("FusionM4Net-SS, Tang 2022", "0.770"), ("CC, Wang 2021a", "0.813"),
        ("Omeroglu 2023", "0.830"), ("always the most frequent class", "0.618"),
    ],
)  # fmt: skip
def test_the_methods_of_the_paper_stand_beside_ours(who: str, accuracy: str) -> None:
    study = load_study("soft_attention")
    assert study.part("methods").kind == "literature"
    (line,) = (line for line in reproduction.cited_table(study.cited, []).splitlines() if line.startswith(f"| {who}"))
    assert f"| {accuracy} |" in line
    assert "mean of eight tasks" in line.rpartition("| no: ")[2]
