"""Phantom lesions: synthetic photos with exact masks, a known class rule and invented patients.

They demonstrate and test the chain where real photos are not allowed; a model trained on them is useless on skin. Each
class has its own outline irregularity, colour, mottling and scaling (``RULES``). Each patient has a skin tone and an
age from the class's range. One lesion in ``CONFUSED`` is drawn by the rule of another class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WIDTH_PX, HEIGHT_PX = 240, 180
CONFUSED = 12
"""One lesion in this many is drawn like another class, so that the classes are not perfectly separable."""


@dataclass(frozen=True)
class ClassAppearance:
    """How one class is drawn.

    Attributes:
        irregular: amplitude of the outline's low harmonics, share of the radius.
        colour: mean RGB of the lesion, 0 to 255.
        mottled: standard deviation of slow colour change inside, grey levels.
        rough: standard deviation of fine texture inside, grey levels.
        centre: RGB added in the middle (a crust, a pearl).
        radius: smallest and largest radius, share of the image height.
        age_years: youngest and oldest patient.
        bleeds: probability that the patient reports bleeding.
        share: share of the cohort.
    """

    irregular: float
    colour: tuple[float, float, float]
    mottled: float
    rough: float
    centre: tuple[float, float, float]
    radius: tuple[float, float]
    age_years: tuple[int, int]
    bleeds: float
    share: float


RULES: dict[str, ClassAppearance] = {
    "actinic_keratosis": ClassAppearance(0.14, (186, 112, 98), 8, 15, (0, 0, 0), (0.16, 0.27), (55, 90), 0.10, 0.20),
    "basal_cell_carcinoma": ClassAppearance(
        0.08, (172, 94, 88), 12, 5, (34, 16, 6), (0.16, 0.30), (50, 88), 0.55, 0.22
    ),
    "melanoma": ClassAppearance(0.24, (84, 58, 54), 26, 8, (-26, -14, 4), (0.22, 0.38), (35, 85), 0.30, 0.14),
    "nevus": ClassAppearance(0.04, (118, 80, 60), 6, 4, (-8, -8, -8), (0.12, 0.24), (10, 55), 0.03, 0.20),
    "squamous_cell_carcinoma": ClassAppearance(
        0.18, (164, 84, 76), 18, 13, (34, 44, 6), (0.20, 0.34), (55, 92), 0.60, 0.10
    ),
    "seborrheic_keratosis": ClassAppearance(0.07, (104, 76, 54), 10, 20, (0, 0, 0), (0.16, 0.30), (45, 90), 0.05, 0.14),
}
_SITES = ("face", "neck", "back", "chest", "forearm", "hand", "thigh", "foot")
_SKIN = np.array([(224, 178, 152), (208, 160, 132), (190, 140, 112), (164, 116, 90)], dtype=float)


@dataclass(frozen=True)
class Hospital:
    """What differs between two hospitals: light and optics.

    Attributes:
        prefix: start of patient and file names.
        gain: factor on red, green and blue (the camera's white balance).
        gamma: exponent on the image (its contrast).
        noise: sensor noise, grey levels.
        vignette: darkening towards the corners, 0 to 1.
    """

    prefix: str
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    noise: float = 3.0
    vignette: float = 0.15


def draw(
    rng: np.random.Generator, diagnosis: str, skin: np.ndarray, hospital: Hospital
) -> tuple[np.ndarray, np.ndarray]:
    """One photo and its mask.

    Args:
        rng: random generator.
        diagnosis: a key of :data:`RULES`.
        skin: RGB of the skin, (3,).
        hospital: camera and light.

    Returns:
        uint8 (HEIGHT_PX, WIDTH_PX, 3) and bool (HEIGHT_PX, WIDTH_PX).
    """
    from scipy.ndimage import gaussian_filter

    rule = RULES[diagnosis]
    rows, columns = np.indices((HEIGHT_PX, WIDTH_PX), dtype=float)
    y = rows - HEIGHT_PX / 2 - rng.normal(0, 8)
    x = columns - WIDTH_PX / 2 - rng.normal(0, 12)
    stretch, turn = rng.uniform(0.8, 1.25), rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) * stretch
    angle = np.arctan2(v, u)
    outline = np.ones_like(angle)
    for harmonic in range(2, 8):
        amplitude = rng.normal(0, rule.irregular / (harmonic - 1))
        outline += amplitude * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    radius = rng.uniform(*rule.radius) * HEIGHT_PX * np.clip(outline, 0.45, 1.6)
    depth = 1 - np.hypot(u, v) / radius  # 1 in the middle, 0 on the outline, below 0 outside
    mask = depth > 0

    def field(sigma: float, size: float) -> np.ndarray:
        noise = gaussian_filter(rng.standard_normal((HEIGHT_PX, WIDTH_PX)), sigma)
        return np.asarray(size * noise / noise.std())

    picture = skin + field(18, 5)[..., None] + field(1.2, 3)[..., None]
    inside = np.array(rule.colour) + 0.35 * (skin - _SKIN[1])
    lesion = inside + field(7, rule.mottled)[..., None] + field(1.0, rule.rough)[..., None]
    lesion = lesion + np.array(rule.centre) * np.clip(depth * 2, 0, 1)[..., None]
    blend = np.clip(depth * 9 + 0.5, 0, 1)[..., None]
    picture = picture * (1 - blend) + lesion * blend
    if rng.random() < 0.25:
        picture = _hair(rng, picture)
    corner = (x / WIDTH_PX) ** 2 + (y / HEIGHT_PX) ** 2
    picture = picture * (1 - hospital.vignette * 2 * corner)[..., None] * np.array(hospital.gain)
    picture = 255 * np.clip(picture / 255, 0, 1) ** hospital.gamma + rng.normal(0, hospital.noise, picture.shape)
    return np.clip(picture, 0, 255).round().astype(np.uint8), mask


def _hair(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A few dark hairs, as nearly straight lines one to two pixels wide."""
    rows, columns = np.indices(picture.shape[:2], dtype=float)
    for _ in range(int(rng.integers(2, 7))):
        turn, offset = rng.uniform(0, np.pi), rng.uniform(-80, 80)
        line = (columns - WIDTH_PX / 2) * np.cos(turn) + (rows - HEIGHT_PX / 2) * np.sin(turn) - offset
        near = np.abs(line + 4 * np.sin(rows / 40)) < rng.uniform(0.5, 0.9)
        picture = np.where(near[..., None], picture * 0.45, picture)
    return picture


def write_cohort(
    folder: Path, hospital: Hospital, lesions: int, *, seed: int, masks: bool = True
) -> list[dict[str, Any]]:
    """Draw a cohort into ``folder/images`` and ``folder/masks``.

    About every fifth lesion is photographed twice and every sixth patient has two lesions.

    Args:
        folder: created if absent.
        hospital: camera and light.
        lesions: number of lesions.
        seed: random seed.
        masks: also write the true masks.

    Returns:
        One row per photo: file, patient, lesion, diagnosis, age_years, sex, region, bleed, grew, itch.
    """
    from skinkit.images.encode import jpeg_bytes, png_bytes

    rng = np.random.default_rng(seed)
    names = list(RULES)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    patient, skin, sex = 0, _SKIN[0], "female"
    for number, diagnosis in enumerate(_shuffled_diagnoses(rng, lesions), start=1):
        rule = RULES[diagnosis]
        if number == 1 or rng.random() > 1 / 6:
            patient += 1
            skin = _SKIN[rng.integers(len(_SKIN))] + rng.normal(0, 5, 3)
            sex = ("female", "male")[rng.integers(2)]
            age = int(rng.integers(*rule.age_years))
        appearance = names[rng.integers(len(names))] if rng.random() < 1 / CONFUSED else diagnosis
        region, bleed = _SITES[rng.integers(len(_SITES))], rng.random() < rule.bleeds
        grew, itch = rng.random() < 0.2 + rule.irregular * 2, rng.random() < 0.3
        for view in range(2 if rng.random() < 0.2 else 1):
            rgb, mask = draw(rng, appearance, skin, hospital)
            stem = f"{hospital.prefix}{patient:03d}_{number:03d}{'ab'[view]}"
            (folder / "images" / f"{stem}.jpg").write_bytes(jpeg_bytes(rgb, 92))
            if masks:
                (folder / "masks" / f"{stem}.png").write_bytes(png_bytes(mask))
            ids = {"file": f"{stem}.jpg", "patient": f"{hospital.prefix}{patient:03d}", "lesion": f"L{number:03d}"}
            person = {"diagnosis": diagnosis, "age_years": age, "sex": sex, "region": region}
            rows.append({**ids, **person, "bleed": bool(bleed), "grew": bool(grew), "itch": bool(itch)})
    return rows


def _shuffled_diagnoses(rng: np.random.Generator, n: int) -> list[str]:
    """``n`` diagnoses by the shares of :data:`RULES`; fixed counts, so that a small cohort has every class."""
    names = list(RULES)
    shares = np.array([RULES[name].share for name in names])
    counts = np.maximum(np.round(shares / shares.sum() * n).astype(int), 1)
    diagnoses = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    return [diagnoses[i] for i in rng.permutation(len(diagnoses))][:n]
