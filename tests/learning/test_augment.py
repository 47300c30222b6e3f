"""Varied training pictures: photo and masks move as one, the seed decides, and nothing is copied in vain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skinkit.learning.augment import augment
from skinkit.models.parts.protocol import Augment

STILL = Augment(flips=False)
MOVING = Augment(flips=True, rotation_deg=30, smallest_scale=0.8, largest_scale=1.2, shift=0.1)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def painted(n: int = 12, side: int = 48) -> dict[str, torch.Tensor]:
    """Photos whose red channel is the mask itself, off the middle and unlike its mirror images."""
    y, x = np.mgrid[:side, :side]
    mask = ((y - 18) ** 2 / 90 + (x - 28) ** 2 / 40 < 1) | ((y > 30) & (y < 36) & (x > 24) & (x < 40))
    mask = torch.from_numpy(mask).float().expand(n, -1, -1).clone()
    image = torch.stack([mask, torch.full_like(mask, 0.4), 0.6 * mask], dim=1)
    return {"image": image, "mask": mask, "truth_mask": mask.clone(), "attributes": torch.zeros(n, 3)}


@pytest.mark.parametrize("how", [Augment(), MOVING, replace(MOVING, flips=False)])
def test_photo_and_masks_move_together(how: Augment) -> None:
    batch = painted()
    moved = augment(batch, how, drawn())
    assert torch.allclose(moved["image"][:, 0], moved["truth_mask"], atol=1e-5)
    assert torch.equal(moved["mask"], (moved["truth_mask"] >= 0.5).float())
    assert torch.allclose(moved["image"][:, 1], torch.full_like(moved["mask"], 0.4), atol=1e-5)
    assert not torch.allclose(moved["mask"], batch["mask"])
    assert moved["attributes"] is batch["attributes"]
    assert len({tuple(mask.flatten().tolist()) for mask in moved["mask"]}) > 2  # each case in its own way


def test_flips_alone_are_exact_and_every_one_occurs() -> None:
    batch = painted(n=32)
    moved = augment(batch, Augment(), drawn())["truth_mask"]
    one = batch["truth_mask"][0]
    kinds = [one, one.flip(0), one.flip(1), one.flip(0, 1)]
    met = [sum(torch.equal(mask, kind) for mask in moved) for kind in kinds]
    assert sum(met) == 32
    assert min(met) >= 2


def test_movements_are_as_large_as_asked_for() -> None:
    side = 64
    mask = torch.zeros(200, side, side)
    mask[:, 24:40, 24:40] = 1
    batch = {"image": mask[:, None].repeat(1, 3, 1, 1), "truth_mask": mask}
    turned = augment(batch, Augment(flips=False, shift=0.1), drawn())["truth_mask"]
    at = (torch.arange(side) - 31.5) / side
    across = (turned.sum(1) * at).sum(1) / turned.sum((1, 2))
    assert 0.085 < float(across.abs().max()) <= 0.101
    scaled = (
        augment(batch, Augment(flips=False, smallest_scale=0.5, largest_scale=1.5), drawn())["truth_mask"]
        .sum((1, 2))
        .sqrt()
        / 16
    )
    assert 0.45 < float(scaled.min()) < 0.65  # 8 pixels wide: counted coarsely
    assert 1.4 < float(scaled.max()) < 1.55


def test_what_comes_from_outside_is_mirrored_in_photo_and_mask_alike() -> None:
    whole = torch.ones(4, 16, 16)
    moved = augment({"image": whole[:, None].repeat(1, 3, 1, 1), "mask": whole}, Augment(shift=0.5), drawn())
    assert float(moved["mask"].min()) == 1
    assert torch.allclose(moved["image"], torch.ones(()), atol=1e-5)


def test_the_generator_decides_everything() -> None:
    how = replace(MOVING, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)
    one, again, other = (augment(painted(), how, drawn(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["image"], other["image"])


def test_nothing_is_copied_where_nothing_is_done() -> None:
    batch = painted()
    same = augment(batch, STILL, drawn())
    assert all(same[name] is batch[name] for name in batch)
    coloured = augment(batch, replace(STILL, brightness=0.1), drawn())
    assert coloured["mask"] is batch["mask"]
    before = {name: values.clone() for name, values in batch.items()}
    augment(batch, replace(MOVING, hue=0.1), drawn())
    assert all(torch.equal(before[name], batch[name]) for name in batch)  # the batch given stays as it was


def test_colours_do_what_their_names_say() -> None:
    image = torch.rand(64, 3, 8, 8, generator=drawn()) * 0.4 + 0.3
    luma = torch.tensor([0.299, 0.587, 0.114])

    def changed(**how: float) -> torch.Tensor:
        return augment({"image": image}, replace(STILL, **how), drawn())["image"]  # type: ignore[arg-type]

    ratio = changed(brightness=0.1) / image
    assert 0.9 <= float(ratio.min()) < 0.91
    assert 1.09 < float(ratio.max()) <= 1.1001
    assert float((ratio.amax((1, 2, 3)) - ratio.amin((1, 2, 3))).max()) < 1e-4
    contrasted = changed(contrast=0.2)
    assert torch.allclose(contrasted.mean((2, 3)) @ luma, image.mean((2, 3)) @ luma, atol=1e-5)
    spread = contrasted.std((1, 2, 3)) / image.std((1, 2, 3))
    assert 0.78 < float(spread.min()) < 0.9 < 1.1 < float(spread.max()) < 1.22
    for how in ({"saturation": 0.3}, {"hue": 0.1}):
        recoloured = changed(**how)
        assert torch.allclose(torch.einsum("nchw,c", recoloured, luma), torch.einsum("nchw,c", image, luma), atol=1e-2)
        assert float((recoloured - image).abs().max()) > 0.02
    grey = image.mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    assert torch.allclose(augment({"image": grey}, replace(STILL, hue=0.3), drawn())["image"], grey, atol=5e-3)
    assert 0 <= float(changed(brightness=1.0).min()) <= float(changed(brightness=1.0).max()) <= 1


def test_channels_vary_apart() -> None:
    image = torch.rand(64, 3, 8, 8, generator=drawn()) * 0.4 + 0.3
    ratio = augment({"image": image}, replace(STILL, channels=0.1), drawn())["image"] / image
    assert float((ratio.amax((2, 3)) - ratio.amin((2, 3))).max()) < 1e-4  # one factor per photo and channel
    factors = ratio.mean((2, 3))
    assert 0.9 <= float(factors.min()) < 0.91 < 1.09 < float(factors.max()) <= 1.1001
    assert float((factors.amax(1) - factors.amin(1)).max()) > 0.1


def test_textures_touch_half_of_the_photos_and_no_mask() -> None:
    batch = painted(200)
    for how, softer in ((replace(STILL, blur=0.05), True), (replace(STILL, sharpness=2.0), False)):
        found = augment(batch, how, drawn())
        assert found["mask"] is batch["mask"]
        touched = (found["image"] - batch["image"]).abs().amax((1, 2, 3)) > 1e-3
        assert 60 < int(touched.sum()) < 140
        image = torch.rand(40, 3, 32, 32, generator=drawn()) * 0.4 + 0.3
        roughness = augment({"image": image}, how, drawn())["image"].std((2, 3)) / image.std((2, 3))
        assert float(roughness.min()) < 0.7 if softer else float(roughness.max()) > 1.3
        assert bool((roughness <= 1.001).all() if softer else (roughness >= 0.999).all())
    flat = torch.full((400, 3, 8, 8), 0.5)
    noise = (augment({"image": flat}, replace(STILL, noise=0.05), drawn())["image"] - 0.5).std((1, 2, 3))
    assert 120 < int((noise > 0).sum()) < 280
    assert 0.04 < float(noise.max()) < 0.06
    assert torch.equal(augment({"image": flat}, replace(STILL, blur=0.1), drawn())["image"].round(decimals=5), flat)
    everything = replace(MOVING, blur=0.05, sharpness=1.0, noise=0.2, channels=0.3)
    one, again = (augment(painted(), everything, drawn(3))["image"] for _ in range(2))
    assert torch.equal(one, again)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1


def test_blur_is_a_gaussian() -> None:
    """Against SciPy, away from the border."""
    from scipy.ndimage import gaussian_filter

    from skinkit.learning.augment import _blurred

    image = torch.rand(3, 3, 40, 40, generator=drawn())
    blurred = _blurred(image, torch.tensor([2.0, 0.0, 0.7]))
    assert torch.equal(blurred[1], image[1])
    for case, sd in ((0, 2.0), (2, 0.7)):
        expected = gaussian_filter(image[case].numpy(), (0, sd, sd), mode="mirror", truncate=6 / sd)
        np.testing.assert_allclose(blurred[case].numpy(), expected, atol=2e-4)
