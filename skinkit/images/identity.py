"""The identity of images: file-safe names, perceptual hashes and hashes of the pixels."""

from __future__ import annotations

import hashlib
import re

import numpy as np
from PIL import Image

from skinkit.images.pixels import Array

# ---------------------------------------------------------------------------------------------- names and hashes
_SLUG_LENGTH = 80
_SAFE = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{_SLUG_LENGTH - 1}}}")


def slug(image_id: str) -> str:
    """A file stem for an id: ASCII letters, digits, '.', '_', '-', at most 80 characters.

    An id that already is one stays as it is; any other gets a hash of itself as suffix, so two ids never share a file.

    >>> slug("PAT_46_881_939"), slug("病人 1/左")
    ('PAT_46_881_939', '1-aabd998b24')
    """
    if _SAFE.fullmatch(image_id):
        return image_id
    suffix = "-" + hashlib.sha256(image_id.encode()).hexdigest()[:10]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", image_id).strip("._-")[: _SLUG_LENGTH - len(suffix)]
    return (stem or "image") + suffix


def dhash(rgb: Array) -> str:
    """64-bit difference hash, 16 hexadecimal digits: bit = a pixel of the 9 x 8 luma is brighter than its left one.

    Source: N. Krawetz, "Kind of Like That", 2013. Distances are Hamming distances of the bits.
    """
    small = np.asarray(Image.fromarray(rgb).convert("L").resize((9, 8), Image.Resampling.LANCZOS)).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def pixel_sha256(rgb: Array) -> str:
    """SHA-256 of width, height and pixels: equal for files that show exactly the same picture."""
    height, width = rgb.shape[:2]
    content = hashlib.sha256(f"{width}x{height}:".encode())
    content.update(np.ascontiguousarray(rgb).data)  # where it lies: a copy would cost as much as hashing
    return content.hexdigest()
