"""The dual network of Atiq and Fattah 2025: its ablation, part by part. The paper's own tables were not at hand."""

from __future__ import annotations

from skinkit.studies.reading import read_study

STUDY = read_study(__file__)
