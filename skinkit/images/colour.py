"""Colours of embedded ICC profiles as sRGB, by LittleCMS.

A colour channel is measured as sRGB, so a photo whose numbers mean other colours (Display P3 of phones, Adobe RGB of
cameras, the inks of a CMYK file) is converted and flagged ``converted_from_...``. A profile that is sRGB within one
level changes nothing and is no flag. One that is broken, larger than :data:`MAX_PROFILE_BYTES`, of another kind of
colours or implausible is passed over, with the flag ``profile_ignored``.

Source: ICC.1:2022, relative colorimetric intent with black point compensation.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from skinkit.images.pixels import DAMAGE, Array

MAX_PROFILE_BYTES = 4 << 20
IGNORED = "profile_ignored"
_NAMED = {
    "display p3": "p3", "dci-p3": "p3", "p3-d65": "p3", "adobe rgb": "adobe_rgb", "adobergb": "adobe_rgb",
    "a98c": "adobe_rgb", "prophoto": "prophoto_rgb", "romm": "prophoto_rgb", "2020": "rec2020",
}  # fmt: skip
"""Part of a profile's description -> end of the flag; the rest is not reported: anyone may write there."""
_MODE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_WHITE, _BLACK = 200, 60
"""What a plausible profile makes at least of white and at most of black."""


def to_srgb(image: Image.Image, profile: bytes, flags: list[str]) -> Image.Image:
    """A picture of mode L, RGB or CMYK as sRGB.

    Args:
        image: of 8 bits a channel, without transparency.
        profile: the embedded ICC profile.
        flags: receives ``converted_from_...`` or ``profile_ignored``.

    Returns:
        The picture itself where the profile changes nothing, else one of mode RGB.
    """
    transform, name = _transform(profile) if len(profile) <= MAX_PROFILE_BYTES else (None, IGNORED)
    if transform is None:
        flags.extend([name] if name else [])
        return image
    if transform.input_mode == "RGB" and image.mode == "L":  # a grey file with the profile of its colour twin
        image = image.convert("RGB")
    if image.mode != transform.input_mode:
        flags.append(IGNORED)
        return image
    flags.append(name)
    converted: Image.Image = transform.apply(image)
    return converted


def srgb_array(rgb: Array, profile: bytes, flags: list[str]) -> Array:
    """uint8 (H, W, 3) as sRGB, as :func:`to_srgb`."""
    return np.asarray(to_srgb(Image.fromarray(rgb), profile, flags))


@lru_cache(maxsize=8)
def _transform(data: bytes) -> tuple[Any, str]:
    """The conversion of a profile to sRGB and its flag; None where nothing is to be done, with or without a flag."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        mode = _MODE[profile.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "CMYK":
            ends = Image.merge("CMYK", [Image.frombytes("L", (2, 1), bytes((0, 255)))] * 4)
            same = False
        else:
            probe = _probe(mode)
            made = np.asarray(transform.apply(probe)).astype(np.int16)
            same = bool(np.abs(made - np.asarray(probe.convert("RGB"))).max() <= 1)
            ends = Image.frombytes("L", (2, 1), bytes((255, 0))).convert(mode)
        white, black = np.asarray(transform.apply(ends))[0]
        described = ImageCms.getProfileDescription(profile).lower()
    except (*DAMAGE, ImageCms.PyCMSError):
        return None, IGNORED
    if white.min() < _WHITE or black.max() > _BLACK:
        return None, IGNORED
    if same:
        return None, ""
    named = next((name for part, name in _NAMED.items() if part in described), "other_profile")
    return transform, "converted_from_" + ("cmyk_profile" if mode == "CMYK" else named)


def _probe(mode: str) -> Image.Image:
    """Colours in steps of 51 (RGB) or every grey (L)."""
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3))
