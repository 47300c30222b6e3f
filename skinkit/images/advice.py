"""What a person can do about a photo or a mask that cannot be used: ``advice.toml``, by reason code."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from skinkit.errors import CaseError, InputError


@cache
def advice() -> dict[str, str]:
    """Reason code -> what to do, one sentence."""
    text = (resources.files("skinkit.images") / "advice.toml").read_text(encoding="utf-8")
    every: dict[str, str] = tomllib.loads(text)
    return every


def unusable(error: CaseError, photo: str | Path, mask: str | Path | None = None) -> InputError:
    """The error of a command that was given one photo, naming the file at fault and the advice for its reason.

    Args:
        error: why the photo or its mask cannot be used.
        photo: file of the photo.
        mask: file of the mask, if one was given.
    """
    of_mask = mask is not None and error.reason.startswith("mask_")
    return InputError(
        f"{mask if of_mask else photo}: {error.reason}" + (f" ({error.detail})" if error.detail else ""),
        "a mask of the lesion on this photo" if of_mask else "an image file that can be decoded completely",
        advice().get(error.reason, "look at the file; docs/input.md explains the reason"),
    )
