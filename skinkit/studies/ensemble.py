"""The ensemble of frozen features and metadata: what each of its experts adds, on PAD-UFES-20. No paper."""

from __future__ import annotations

from skinkit.studies.reading import read_study

STUDY = read_study(__file__)
