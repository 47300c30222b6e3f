"""The identity of images: file-safe names, perceptual hashes and hashes of the pixels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from skinkit.images.pixels import Array

Hashes = npt.NDArray[np.uint64]
_DIGITS = 64

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
    """Four 64-bit difference hashes, 64 hexadecimal digits: the picture's, its mirror image's and both transposed.

    A bit says that a pixel of the 9 x 8 luma is brighter than its left one. The first 16 digits are the hash as it was
    published (N. Krawetz, "Kind of Like That", 2013). Distances are Hamming distances of the bits.
    """
    luma = Image.fromarray(rgb).convert("L")
    digits = ""
    for picture in (luma, luma.transpose(Image.Transpose.TRANSPOSE)):
        small = np.asarray(picture.resize((9, 8), Image.Resampling.LANCZOS)).astype(np.int16)
        for version in (small, small[:, ::-1]):
            digits += np.packbits(version[:, 1:] > version[:, :-1]).tobytes().hex()
    return digits


def dihedral_hashes(hashes: Iterable[str]) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    """Difference hashes of the eight mirrored and turned versions of pictures.

    Args:
        hashes: of :func:`dhash`; of hashes with 16 digits only four versions are known, those without a quarter turn.

    Returns:
        (n, 8, 2): the hash along the rows and that along the columns of each version, the picture itself first. (n,):
        whether all eight versions and the hash along the columns are known.
    """
    texts = list(hashes)
    whole = np.array([len(text) == _DIGITS for text in texts], dtype=bool)
    words = np.array([[int(text[i : i + 16] or "0", 16) for i in range(0, _DIGITS, 16)] for text in texts], np.uint64)
    rows, mirrored, columns, mirrored_columns = words.reshape(-1, 4).T
    bits = np.unpackbits(rows[:, None].view(np.uint8), axis=1).reshape(-1, 8, 8)
    without_ties = np.packbits(1 - bits[..., ::-1], axis=2).reshape(-1, 8).copy().view(np.uint64)[:, 0]
    mirrored = np.where(whole, mirrored, without_ties)
    columns, mirrored_columns = np.where(whole, columns, rows), np.where(whole, mirrored_columns, mirrored)
    turned = (rows, mirrored, columns, mirrored_columns), (columns, mirrored_columns, rows, mirrored)
    versions = [
        version
        for a, a_mirrored, b, b_mirrored in turned
        for version in (  # a byte of a word is a row of bits
            (a, b),
            (a_mirrored, b.byteswap()),
            (a.byteswap(), b_mirrored),
            (a_mirrored.byteswap(), b_mirrored.byteswap()),
        )
    ]
    return np.array(versions, dtype=np.uint64).transpose(2, 0, 1), whole


def pixel_sha256(rgb: Array) -> str:
    """SHA-256 of width, height and pixels: equal for files that show exactly the same picture."""
    height, width = rgb.shape[:2]
    content = hashlib.sha256(f"{width}x{height}:".encode())
    content.update(np.ascontiguousarray(rgb).data)  # where it lies: a copy would cost as much as hashing
    return content.hexdigest()
