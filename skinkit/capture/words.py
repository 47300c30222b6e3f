"""The words of the page: ``text/LANGUAGE.toml``, and what is said with every result in ``notice.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh-CN")
TEXTS = Path(__file__).parent / "text"
_NOTICE = Path(__file__).with_name("notice.toml")


@cache
def words(language: str) -> dict[str, Any]:
    """The words of one language of :data:`LANGUAGES`; empty where there are none yet."""
    file = TEXTS / f"{language}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@cache
def notice() -> dict[str, str]:
    """What every result says of itself, by language."""
    said: dict[str, str] = tomllib.loads(_NOTICE.read_text(encoding="utf-8"))["notice"]
    return said


@cache
def labels() -> dict[str, dict[str, str]]:
    """Diagnosis -> its name, by language."""
    said: dict[str, dict[str, str]] = tomllib.loads(_NOTICE.read_text(encoding="utf-8"))["diagnosis"]
    return said
