"""Soft attention (Omeroglu et al. 2023) on derm7pt: two photos, eight tasks, and the official split."""

from __future__ import annotations

from skinkit.studies.reading import read_study
from skinkit.studies.study import PublishedSplit, SourceTable

STUDY = read_study(
    __file__,
    [
        PublishedSplit(
            "derm7pt",
            "derm7pt's own index files",
            None,
            over=SourceTable(
                "derm7pt",
                "derm7pt",
                "case_num",
                "case_num",
                "case_num",
                "diagnosis",
                key="case_id",
                parts={
                    "train": "**/meta/train_indexes.csv",
                    "validation": "**/meta/valid_indexes.csv",
                    "held_out": "**/meta/test_indexes.csv",
                },
            ),
        )
    ],
)
