"""What an artifact records of the program that made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import skinkit
from skinkit.artifacts.provenance import commit, library_versions

CHECKOUT = Path(skinkit.__file__).resolve().parents[1]


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="skinkit does not run from a checkout")
def test_the_commit_is_that_of_the_checkout() -> None:
    head = subprocess.run(
        ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert commit() == head


def test_versions_are_those_of_the_libraries() -> None:
    import numpy

    assert library_versions()["numpy"] == numpy.__version__
