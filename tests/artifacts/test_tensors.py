"""Safetensors files: what the library writes is read, and what contradicts itself is refused in words."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from skinkit.artifacts.embedding_store import EmbeddingStore
from skinkit.artifacts.tensors import check_tensors, load_tensors
from skinkit.console import Console

ARRAYS = {
    "weight": np.arange(6, dtype=np.float64).reshape(2, 3), "half": np.ones(3, np.float16), "scalar": np.array(2.5),
    "none": np.zeros((4, 0)), "counts": np.array([7], np.int64), "mask": np.array([True, False]),
}  # fmt: skip


def file(folder: Path, header: Any, content: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "x.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + content)
    return path


def entry(begin: int, end: int, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [begin, end]}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(ARRAYS, metadata={"format": "np"}))
    read = load_tensors(path)
    assert read.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype


HEADERS: dict[str, tuple[Any, bytes, str]] = {
    "no JSON": (b"{", b"", "x.safetensors"),
    "no object": ([], b"", "no object"),
    "nested without end": (b"[" * 100_000, b"", "x.safetensors"),
    "one name twice": (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
        b"ab",
        "two entries of one name",
    ),
    "two at one place": ({"a": entry(0, 4), "b": entry(0, 4)}, b"\0" * 4, "begins at byte 0 instead of 4"),
    "overlap": ({"a": entry(0, 8, (2,)), "b": entry(4, 8)}, b"\0" * 8, "begins at byte 4 instead of 8"),
    "gap": ({"a": entry(0, 4), "b": entry(8, 12)}, b"\0" * 12, "begins at byte 8 instead of 4"),
    "beyond the end": ({"a": entry(0, 4)}, b"\0" * 3, "3 bytes of tensors instead of 4"),
    "bytes of nobody": ({"a": entry(0, 4)}, b"\0" * 5, "5 bytes of tensors instead of 4"),
    "backwards": ({"a": entry(4, 0)}, b"\0" * 4, "-4 bytes"),
    "another product": ({"a": entry(0, 4, (2,))}, b"\0" * 4, "not those of its shape"),
    "a huge shape": ({"a": entry(0, 4, (2**62, 2**62))}, b"\0" * 4, "not those of its shape"),
    "nothing, very often": ({"a": entry(0, 0, (2**40, 0))}, b"", "holds nothing"),
    "many axes": ({"a": entry(0, 4, (1,) * 65)}, b"\0" * 4, "no sizes"),
    "a negative axis": ({"a": entry(0, 4, (-1, -1))}, b"\0" * 4, "no sizes"),
    "an axis of truth": ({"a": entry(0, 4, [True])}, b"\0" * 4, "no sizes"),
    "an axis of a half": ({"a": entry(0, 4, [1.0])}, b"\0" * 4, "no sizes"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"\0" * 4, "without dtype"),
    "a dtype of others": ({"a": entry(0, 4, (4,), "F8_E4M3")}, b"\0" * 4, "F8_E4M3"),
    "a dtype that is a list": ({"a": entry(0, 4, (1,), [])}, b"\0" * 4, "dtype"),
    "one that NumPy lacks": ({"a": entry(0, 4, (2,), "BF16")}, b"\0" * 4, "x.safetensors"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
    "not finite": ({"a": entry(0, 4)}, np.array([np.nan], np.float32).tobytes(), "not finite"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, name: str) -> None:
    header, content, found = HEADERS[name]
    with pytest.raises(ValueError, match=found):
        load_tensors(file(tmp_path, header, content))


@pytest.mark.parametrize("length", [0, 3, 10**6, 2**40, 2**64 - 1])
def test_a_length_that_lies_is_refused_before_anything_is_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        check_tensors(file(tmp_path, {"a": entry(0, 4)}, b"\0" * 4, length))
    for short in (b"", b"\0" * 7):
        (tmp_path / "x.safetensors").write_bytes(short)
        with pytest.raises(ValueError, match="a header of"):
            check_tensors(tmp_path / "x.safetensors")


def test_mutants_are_refused_or_read(tmp_path: Path) -> None:
    whole, path = save(ARRAYS), tmp_path / "x.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for seed in range(500):
        chance = random.Random(seed)
        data = bytearray(whole)
        data[chance.randrange(header)] = chance.randrange(256)
        path.write_bytes(bytes(data))
        try:
            assert sum(values.nbytes for values in load_tensors(path).values()) == len(whole) - header
        except ValueError:
            refused += 1
    assert refused > 100


def test_a_damaged_store_of_embeddings_is_forgotten(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    store.write({"a": np.ones(2, np.float16)})
    damaged = file(tmp_path, {"b": entry(0, 4), "c": entry(0, 4)}, b"\0" * 4)
    assert store.read(["a", "b"], Console(quiet=True)).keys() == {"a"}
    assert not damaged.exists()
