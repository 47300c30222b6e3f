"""Provenance of an artifact: the commit of skinkit and the versions of libraries."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path


@cache
def commit() -> str | None:
    """The commit of skinkit's checkout, if it runs from one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
    try:
        answer = git(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return answer.stdout.strip() or None


def library_versions(names: Iterable[str] = ()) -> dict[str, str]:
    """Installed versions of the libraries that can change a number."""
    chosen = tuple(names) or (
        "numpy", "pandas", "pyarrow", "pillow", "scipy", "scikit-learn", "SimpleITK", "pyradiomics", "lightgbm", "shap",
        "torch", "torchvision",
    )  # fmt: skip
    return {name: version for name in chosen if (version := _version(name))}


@cache
def _version(name: str) -> str:
    """Installed version of a library; empty without it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""
