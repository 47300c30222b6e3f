"""Named inputs: what a batch holds, what is kept in memory, what is told of photos that cannot be read; inference."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toy_network import SIDE_PX, dark_squares, toy

from skinkit.artifacts.files import file_sha256
from skinkit.console import Console
from skinkit.errors import CaseError, InputError
from skinkit.images.drawn_masks import DrawnMask
from skinkit.images.encode import png_bytes
from skinkit.images.identity import pixel_sha256
from skinkit.learning import forward
from skinkit.learning.examples import Examples, LesionMask, Photo, as_input, in_order, resized, shrunk_mask

QUIET = Console(quiet=True)


def photo(folder: Path, rgb: np.ndarray, name: str = "a.png") -> Photo:
    (folder / name).write_bytes(png_bytes(rgb))
    return Photo(pixel_sha256(rgb), folder / name)


def test_a_batch_holds_what_is_read_and_nothing_else(tmp_path: Path) -> None:
    half = np.zeros((20, 40), bool)
    half[:, :20] = True
    (tmp_path / "half.png").write_bytes(png_bytes(half))
    (tmp_path / "none.png").write_bytes(png_bytes(np.zeros((20, 40), bool)))
    rgb = np.zeros((20, 40, 3), np.uint8)
    rgb[:, :20] = (255, 51, 0)
    examples = Examples(
        ("image", "mask", "attributes"),
        8,
        [photo(tmp_path, rgb)] * 3,
        masks=[LesionMask(tmp_path / "half.png", ""), None, LesionMask(tmp_path / "none.png", "")],
        truth_masks=[DrawnMask(tmp_path / "half.png")] * 3,
        arrays={"attributes": np.arange(6.0).reshape(3, 2), "radiomics": np.zeros((3, 9))},
        classes=np.array([4, 5, 6]),
    )
    stored = examples.batch([0, 2])
    assert {name: values.dtype for name, values in stored.items()} == {
        "image": torch.uint8, "mask": torch.uint8, "truth_mask": torch.uint8, "attributes": torch.float32,
        "class": torch.int64,
    }  # fmt: skip
    batch = as_input(examples.batch([0, 1, 2]), "cpu")
    assert batch["image"].shape == (3, 3, 8, 8)
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["image"][0, :, 4, 1].tolist() == pytest.approx([1, 0.2, 0])
    assert batch["mask"].mean(dim=(1, 2)).tolist() == [0.5, 1, 1]  # a mask that failed is the whole photo
    assert batch["truth_mask"][0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert batch["attributes"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert batch["class"].tolist() == [4, 5, 6]
    assert examples.fingerprint([0, 1]) != examples.fingerprint([0, 2])
    assert set(examples.with_arrays({}).batch([0])) == {"image", "mask", "truth_mask"}


def test_pictures_shrink_without_aliasing_and_masks_keep_their_area() -> None:
    stripes = np.zeros((200, 300, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(resized(stripes, 16)[2:-2, 2:-2].astype(int) - 100).max() <= 8
    disc = np.hypot(*np.mgrid[-100:100, -100:100]) < 60
    small = shrunk_mask(disc, 16)
    assert small.mean() / 255 == pytest.approx(disc.mean(), abs=0.005)
    assert len(np.unique(small)) > 3
    assert shrunk_mask(np.array([[True, False]]), 4).tolist() == [[255, 255, 0, 0]] * 4


def test_the_cache_stays_in_its_bounds_and_is_used(tmp_path: Path) -> None:
    one = SIDE_PX * SIDE_PX * 4
    examples = dark_squares(tmp_path, 12, cache_bytes=5 * one + 1)
    whole = [examples.batch([row]) for row in range(12)]
    for file in tmp_path.glob("*.png"):
        file.unlink()
    kept = [row for row in range(12) if not isinstance(examples.tried(row), CaseError)]
    assert kept == [0, 1, 2, 3, 4]
    assert torch.equal(examples.batch([3])["image"], whole[3]["image"])


def test_unreadable_rows_are_known_beforehand(tmp_path: Path) -> None:
    examples = dark_squares(tmp_path, 5)
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "3.png").write_bytes((tmp_path / "2.png").read_bytes())
    found = examples.unreadable(range(5))
    assert {row: error.reason for row, error in found.items()} == {1: "image_unreadable", 3: "image_changed"}
    with pytest.raises(CaseError, match="image_unreadable"):
        examples.batch([0, 1])
    nobody = Examples(("image",), 8, examples.photos, truth_masks=[None] * 5)
    assert {error.reason for error in nobody.unreadable([0, 2]).values()} == {"mask_missing"}


def test_threads_work_ahead_but_not_too_far() -> None:
    begun, lock = [], threading.Lock()

    def slow(item: int) -> int:
        with lock:
            begun.append(item)
        time.sleep(0.001)
        return item * item

    results = in_order(slow, iter(range(50)), ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    time.sleep(0.05)
    assert len(begun) <= 3 + 4
    assert list(results) == [item * item for item in range(3, 50)]


# -------------------------------------------------------------------------------------------------- inference


def test_inference_answers_in_order_whatever_the_batch(tmp_path: Path) -> None:
    examples, network = dark_squares(tmp_path, 7), toy()
    (tmp_path / "2.png").unlink()
    rows = [5, 2, 0, 6, 1]
    by_two = list(forward.run(network, examples, rows, precision="fp32", batch=2, console=QUIET))
    assert [row for row, _ in by_two] == rows
    assert isinstance(by_two[1][1], CaseError)
    with torch.no_grad():
        expected = network.eval()(as_input(examples.batch([5, 0, 6, 1]), "cpu"))["lesion"].numpy()
    found = np.stack([answer["lesion"] for _, answer in by_two if not isinstance(answer, CaseError)])
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    rounded = forward.answers(network, examples, [5, 0, 6, 1], device="cpu", precision="bf16", console=QUIET)["lesion"]
    assert rounded.dtype == np.float32
    assert np.abs(rounded - expected).max() < 0.05
    assert not np.array_equal(rounded, expected)
    assert forward.answers(network, examples, [], device="cpu", precision="fp32", console=QUIET) == {}


def test_out_of_memory_halves_the_batch_and_says_so(tmp_path: Path) -> None:
    class Small(torch.nn.Module):
        room, sizes = 2, []

        def answer(self, batch: Any) -> dict[str, torch.Tensor]:
            self.sizes.append(len(batch["image"]))
            if len(batch["image"]) > self.room:
                torch.empty(1 << 60)
            return {"diagnosis": batch["image"].mean(dim=(2, 3))}

    examples, stream = dark_squares(tmp_path, 9), io.StringIO()
    network, console = Small(), Console(stream=stream)
    found = list(forward.run(network, examples, range(9), precision="fp32", batch=8, console=console))  # type: ignore[arg-type]
    assert [row for row, _ in found] == list(range(9))
    assert network.sizes == [8, 4, 2, 2, 2, 2, 1]
    assert stream.getvalue().count("out of memory: continuing with") == 2
    network.room = 0
    with pytest.raises(InputError) as error:
        list(forward.run(network, examples, range(2), precision="fp32", console=console))  # type: ignore[arg-type]
    assert "memory" in error.value.found
    assert "photo" in error.value.found


def test_a_picture_larger_than_its_square_is_read_whole(tmp_path: Path) -> None:
    """No shortcut of the JPEG decoder: the pixels must be the ones that were hashed."""
    rgb = np.asarray(Image.effect_noise((400, 300), 60).convert("RGB"))
    Image.fromarray(rgb).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        decoded = np.asarray(image.convert("RGB"))
    examples = Examples(("image",), 8, [Photo(pixel_sha256(decoded), tmp_path / "a.jpg")])
    assert examples.unreadable([0]) == {}
    assert np.array_equal(examples.batch([0])["image"][0].permute(1, 2, 0).numpy(), resized(decoded, 8))


def test_a_file_that_is_as_ingested_needs_no_look_at_its_pixels(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.effect_noise((40, 30), 60).convert("RGB").save(file)
    photo = Photo("not the hash of these pixels", file, file_sha256(file))
    assert photo.read().shape == (30, 40, 3)
    Image.effect_noise((40, 30), 61).convert("RGB").save(file)
    with pytest.raises(CaseError, match="image_changed"):
        photo.read()
