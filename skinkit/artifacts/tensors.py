"""Safetensors files, checked before anything reads them.

    8 bytes         length of the header, little endian
    header          JSON: name -> dtype, shape, data_offsets; __metadata__ -> texts
    the rest        the tensors, one after the other without gaps

The library that reads them checks most of this itself; here all of it is checked, with what is wrong in words, before
memory is taken for any tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

Values = TypeVar("Values")

SUFFIX = ".safetensors"
_LARGEST_HEADER = 100_000_000
"""Bytes, the format's own limit."""
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_MOST_AXES = 16
_MOST_OF_NOTHING = 100_000
"""Longest axis of an empty tensor, whose shape no bytes of the file confirm."""
_METADATA = "__metadata__"


def check_tensors(path: Path) -> None:
    """Check the header of a file against itself and against the file's size.

    Raises:
        ValueError: says what is wrong.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            raise ValueError(f"{path.name}: a header of {length} bytes in a file of {size}")
        content = stream.read(length)
    try:
        header = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
        end = _end_of_tensors(header)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if end != size - 8 - length:
        raise ValueError(f"{path.name}: {size - 8 - length} bytes of tensors instead of {end}")


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of a file whose header was checked; every number is finite.

    Raises:
        ValueError: the file is none of ours, or a number is not finite.
        OSError: it cannot be read.
    """
    import numpy as np
    from safetensors.numpy import load_file

    def load(path: Path) -> dict[str, np.ndarray]:
        tensors: dict[str, np.ndarray] = load_file(path)
        for name, values in tensors.items():
            if values.dtype.kind not in "biuf":  # another package may have taught NumPy what bfloat16 is
                raise TypeError(f"{name} has a dtype that NumPy lacks")
        return tensors

    return loaded_by(load, lambda values: bool(np.isfinite(values).all()), path)


def loaded_by(
    load: Callable[[Path], dict[str, Values]], is_finite: Callable[[Values], bool], path: Path
) -> dict[str, Values]:
    """Name -> tensor of a file whose header was checked; every number is finite.

    Args:
        load: what a library reads a safetensors file with.
        is_finite: whether all numbers of a tensor are finite.
        path: the file.

    Raises:
        ValueError: the file is none of ours, or a number is not finite.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError

    check_tensors(path)
    try:
        tensors = load(path)
    except (SafetensorError, TypeError) as error:  # TypeError: a dtype that the library does not have
        raise ValueError(f"{path.name}: {error}") from None
    for name, values in tensors.items():
        if not is_finite(values):
            raise ValueError(f"{path.name}: {name} holds numbers that are not finite")
    return tensors


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two entries with one name, readers could take either."""
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("two entries of one name")
    return dict(pairs)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} in the header")


def _end_of_tensors(header: Any) -> int:
    """Bytes that the tensors of a header take; they follow one another from 0."""
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    texts = header.pop(_METADATA, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"{_METADATA} that holds more than texts")
    at = 0
    for begin, end, name in sorted(_place(name, about) for name, about in header.items()):
        if begin != at:
            raise ValueError(f"tensor {name[:80]!r} begins at byte {begin} instead of {at}")
        at = end
    return at


def _place(name: str, about: Any) -> tuple[int, int, str]:
    """Begin, end and name of a tensor whose dtype and shape fill it."""
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name[:80]!r} without dtype, shape and data_offsets")
    dtype, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"tensor {name[:80]!r} of the dtype {str(dtype)[:40]}")
    if not _sizes(shape, _MOST_AXES) or not _sizes(offsets, 2) or len(offsets) != 2:
        raise ValueError(f"tensor {name[:80]!r} with shape or data_offsets that are no sizes")
    begin, end = offsets
    values = math.prod(shape)
    if end - begin != values * _BYTES[dtype]:
        raise ValueError(f"tensor {name[:80]!r} of {end - begin} bytes, which are not those of its shape and dtype")
    if not values and max(shape) > _MOST_OF_NOTHING:
        raise ValueError(f"tensor {name[:80]!r} that holds nothing {max(shape)} times")
    return begin, end, name


def _sizes(values: Any, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )
