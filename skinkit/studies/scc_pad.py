"""Squamous cell carcinoma of PAD-UFES-20: whether images of a generator help the rarest cancer. No paper."""

from __future__ import annotations

from skinkit.studies.reading import read_study

STUDY = read_study(__file__)
