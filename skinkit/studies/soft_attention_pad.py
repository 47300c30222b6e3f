"""Soft attention on PAD-UFES-20: the whole photo and the lesion cut out of it, seven tasks. Ours, not the paper's."""

from __future__ import annotations

from skinkit.studies.reading import read_study

STUDY = read_study(__file__)
