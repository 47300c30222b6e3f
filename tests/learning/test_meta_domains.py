"""Meta-domains: the same seed gives the same photo, strength 0 changes nothing, and stronger changes more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinkit.errors import ConfigError, InputError
from skinkit.images.lab import DARK, from_lab, to_lab, tone_of, typology_angle
from skinkit.learning.meta_domains import META_DOMAINS, Artefacts, shown_through
from skinkit.models.parts.protocol import named_meta_domains


def photo(side: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc on skin with some texture, and where it is."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    mask = np.hypot(rows, columns * 0.8) < 0.22
    skin = np.array([208, 164, 140]) + rng.normal(0, 5, (side, side, 3))
    skin[mask] -= (90, 85, 70)
    return np.clip(skin, 0, 255).astype(np.uint8), mask


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("name", META_DOMAINS)
def test_a_meta_domain_is_seeded_and_grows_with_its_strength(name: str) -> None:
    rgb, mask = photo()
    kept = rgb.copy()
    assert shown_through(rgb, name, 0.0, 3, mask)[0] is rgb
    once, again = (shown_through(rgb, name, 0.6, 3, mask)[0] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape == rgb.shape
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(rgb, kept)  # the photo itself is left alone
    assert distance(once, shown_through(rgb, name, 0.6, 4, mask)[0]) > 0 or name == "compression"
    by_strength = [
        np.mean([distance(rgb, shown_through(rgb, name, strength, seed, mask)[0]) for seed in range(12)])
        for strength in (0.25, 1.0)
    ]
    assert 0.05 < by_strength[0] < by_strength[1]


def test_only_distance_moves_the_lesion() -> None:
    rgb, mask = photo()
    for name in META_DOMAINS:
        _, moved = shown_through(rgb, name, 1.0, 5, mask)
        assert moved is not None
        assert bool(moved.sum() < 0.4 * mask.sum()) is (name == "distance"), name
        assert shown_through(rgb, name, 1.0, 5)[1] is None
    seen, moved = shown_through(rgb, "distance", 0.5, 5, mask)
    assert moved is not None
    assert seen[moved].mean() < seen[~moved].mean() - 40  # mask and lesion stay on one another


def test_the_tone_of_the_skin_changes_and_the_lesion_does_not() -> None:
    rgb, mask = photo(128)
    seen, _ = shown_through(rgb, "skin_tone", 1.0, 1, mask)
    inner = np.zeros_like(mask)
    inner[58:70, 58:70] = True
    assert distance(seen[inner], rgb[inner]) < 1
    assert abs(typology_angle(seen, mask) - typology_angle(rgb, mask)) > 3


def test_names_are_read_and_wrong_ones_refused() -> None:
    assert named_meta_domains("all") == tuple(META_DOMAINS)
    assert named_meta_domains("") == ()
    assert named_meta_domains("hair, blur") == ("hair", "blur")
    with pytest.raises(ConfigError) as error:
        named_meta_domains("hiar")
    assert "hiar" in error.value.found
    assert "hair" in error.value.expected


# ------------------------------------------------------------------------------------------------------------ skin
def test_lab_is_that_of_the_standard_and_comes_back() -> None:
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [119, 119, 119]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [50.03, 0, 0]]  # sRGB in CIE 1976, D65
    np.testing.assert_allclose(to_lab(colours), expected, atol=0.05)
    every = np.random.default_rng(0).integers(0, 256, (500, 3)).astype(np.uint8)
    np.testing.assert_array_equal(from_lab(to_lab(every)), every)


@pytest.mark.parametrize(
    ("lab", "tone"),
    [((80, 10, 15), "very light"), ((66, 10, 18), "light"), ((60, 10, 18), "intermediate"), ((56, 12, 20), "tan"),
     ((45, 12, 20), "brown"), ((30, 10, 14), DARK)],
)  # fmt: skip
def test_the_typology_angle_is_that_of_the_skin_around_the_lesion(lab: tuple[float, ...], tone: str) -> None:
    rgb = np.tile(from_lab(np.array([lab])), (64 * 64, 1)).reshape(64, 64, 3)
    mask = np.zeros((64, 64), bool)
    mask[20:44, 20:44] = True
    rgb[mask] = (40, 20, 10)
    rgb[:3] = 0  # a frame
    angle = typology_angle(rgb, mask)
    assert angle == pytest.approx(np.degrees(np.arctan2(lab[0] - 50, lab[2])), abs=1.5)
    assert tone_of(angle) == tone


def test_no_tone_is_stated_without_skin() -> None:
    rgb, mask = photo()
    assert np.isnan(typology_angle(rgb, np.ones_like(mask)))
    assert tone_of(float("nan")) is None
    assert tone_of(None) is None


# ------------------------------------------------------------------------------------------------- real artefacts
def test_real_artefacts_are_laid_on_by_their_difference(tmp_path: Path) -> None:
    plain = np.full((10, 30, 3), 150, np.uint8)
    shown = plain.copy()
    shown[:, 10:20] = 60
    (tmp_path / "src" / "ISIC_1").mkdir(parents=True)
    for word, pixels in (("with", shown), ("without", plain)):
        Image.fromarray(pixels).save(tmp_path / "src" / "ISIC_1" / f"ISIC_1_{word}_01.png")
    (tmp_path / "meta.json").write_text('{"artefacts": [{"name": "ISIC_1", "class": "ruler"}]}')
    artefacts = Artefacts.of(tmp_path)
    assert artefacts.sources == {"ISIC_1"}
    rgb = np.full((60, 90, 3), 200, np.uint8)
    seen = artefacts.laid_on(rgb, "ruler", 1.0, 2)
    assert seen.min() == 110  # 90 darker, where the artefact is
    assert ((seen < 200).any(2).mean()) < 0.5
    assert artefacts.laid_on(rgb, "ruler", 0.0, 2) is rgb
    np.testing.assert_array_equal(seen, artefacts.laid_on(rgb, "ruler", 1.0, 2))
    with pytest.raises(InputError):
        Artefacts.of(tmp_path / "nothing")
    (tmp_path / "meta.json").write_text("[]")
    with pytest.raises(InputError) as listed:
        Artefacts.of(tmp_path)
    assert "meta.json" in listed.value.found
    (tmp_path / "meta.json").unlink()
    Image.fromarray(plain[:5]).save(tmp_path / "src" / "ISIC_1" / "ISIC_1_without_01.png")
    with pytest.raises(InputError) as sizes:
        Artefacts.of(tmp_path)
    assert "(30, 5)" in sizes.value.found


# ---------------------------------------------------------------------------------------------------- augmentation
def test_training_photos_are_shown_through_meta_domains_with_their_masks() -> None:
    torch = pytest.importorskip("torch")
    from skinkit.learning.augment import augment
    from skinkit.models.parts.protocol import Augment

    rgb, mask = photo()
    image = torch.from_numpy(rgb).permute(2, 0, 1).float().expand(16, -1, -1, -1) / 255
    batch = {"image": image, "mask": torch.from_numpy(mask).float().expand(16, -1, -1), "class": torch.arange(16)}
    how = Augment(flips=False, meta_domains="distance", meta_share=0.5)

    def varied(how: Augment) -> dict[str, torch.Tensor]:
        return augment(batch, how, torch.Generator().manual_seed(1))

    seen, again = varied(how), varied(how)
    torch.testing.assert_close(seen["image"], again["image"], rtol=0, atol=0)
    changed = (seen["image"] != image).flatten(1).any(1)
    assert 3 <= int(changed.sum()) <= 13
    moved = (seen["mask"] != batch["mask"]).flatten(1).any(1)
    assert bool((moved <= changed).all())
    assert moved.any()
    assert bool((seen["mask"][moved].sum((1, 2)) < mask.sum()).all())
    assert bool((varied(Augment(flips=False))["image"] == image).all())
    everything = varied(Augment(flips=False, meta_domains="all", meta_share=1.0))
    assert float(everything["image"].min()) >= 0
    assert float(everything["image"].max()) <= 1
    whole = {**batch, "mask": torch.ones(16, 96, 96)}  # the outline failed: the skin changes all the same
    seen = augment(
        whole, Augment(flips=False, meta_domains="skin_tone", meta_share=1.0), torch.Generator().manual_seed(1)
    )
    assert bool((seen["image"] != image).flatten(1).any(1).all())
    assert bool((seen["mask"] == 1).all())


def test_an_elongated_photo_has_a_frame_without_a_warning() -> None:
    seen, _ = shown_through(np.full((40, 600, 3), 180, np.uint8), "frame", 1.0, 1)
    assert seen[20, 0].max() < 5
