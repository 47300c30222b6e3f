"""Artifacts on disk: their tables and files, writer locks and provenance."""
