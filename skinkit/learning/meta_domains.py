"""Meta-domains: what a way of taking photos does to them, as transforms that leave the diagnosis as it is.

Each is a function of a photo, a strength from 0 (nothing) to 1 and random numbers; the same seed gives the same photo.
They serve as augmentation of any network (``augment.meta_domains``) and, at fixed strengths, to measure what a trained
model loses (``skinkit corrupt``).

    m1  hair          1 to 40 arcs of hair
    m2  marks         a ruler along an edge, or ink strokes around the lesion
    m3  frame         the vignette of a dermoscope, and its black frame
    m4  bubbles       bubbles of gel and glare
    m5  colour        colour temperature by up to 30 %, gamma 0.7 to 1.5
    m6  blur          out of focus, or moved
    m7  compression   JPEG of quality 60 to 20 after shrinking to 0.7 to 0.3
    m8  distance      taken from farther away, and askew
    m9  shadow        an uneven shadow
    m10 skin_tone     L* of the skin by -25 to +10, outside of the lesion where that is known

Sources: the idea is that of R. Mota et al., arXiv:2602.19857, of whose transforms nothing more than their kind could be
read: every range is ours. Corruptions at fixed strengths: D. Hendrycks and T. Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from skinkit.errors import InputError
from skinkit.images.lab import from_lab, to_lab
from skinkit.models.parts import protocol

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Seen = tuple[Bytes, Mask | None]
"""A photo (H, W, 3) and, where it is known, its lesion (H, W)."""
Transform = Callable[[Bytes, Mask | None, float, np.random.Generator], Seen]
"""(photo, lesion, strength above 0, random numbers) -> the same in this meta-domain."""
_HAIR = ((28, 20, 16), (58, 40, 28), (92, 66, 44), (150, 128, 104))
_INK = ((62, 42, 130), (40, 60, 120), (30, 30, 34), (96, 40, 96))
_SHARES = tuple(i / 24 for i in range(25))


def _hair(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    side = max(height, width)
    image, layers = Image.fromarray(rgb), [Image.new("L", (width, height)) for _ in _HAIR]
    for _ in range(round(1 + 39 * strength)):
        start, turn = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0, 2 * math.pi)
        reach = rng.uniform(0.3, 1.0) * side
        end = start + reach * np.array([math.cos(turn), math.sin(turn)])
        bend = (start + end) / 2 + rng.normal(0, 0.15, 2) * reach
        arc = [(1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end for t in _SHARES]
        thick = max(1, round(side / 300 * rng.uniform(0.6, 1.8)))
        pen = ImageDraw.Draw(layers[int(rng.integers(len(_HAIR)))])
        pen.line([(float(x), float(y)) for x, y in arc], fill=int(rng.uniform(150, 240)), width=thick)
    for colour, layer in zip(_HAIR, layers, strict=True):
        image.paste(colour, (0, 0), layer.filter(ImageFilter.GaussianBlur(0.4)))
    return np.asarray(image), mask


def _marks(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    image, layer = Image.fromarray(rgb), Image.new("L", (width, height))
    pen, opacity = ImageDraw.Draw(layer), int(90 + 165 * strength)
    if rng.random() < 0.5:  # a ruler
        colour, long = (20, 20, 22), (0.03 + 0.05 * strength) * height
        space, far = max(3.0, width / rng.uniform(25, 60)), rng.random() < 0.5
        for at in range(int(width / space)):
            x, reach = at * space, long * (1.6 if at % 10 == 0 else 1.25 if at % 5 == 0 else 1.0)
            ends = (height - reach, height) if far else (0, reach)
            pen.line([(x, ends[0]), (x, ends[1])], fill=opacity, width=max(1, round(width / 300)))
    else:
        colour = _INK[int(rng.integers(len(_INK)))]
        centre, thick = np.array([width, height]) / 2, max(2, round(max(width, height) * (0.006 + 0.016 * strength)))
        for _ in range(round(1 + 4 * strength)):
            radius, turn = rng.uniform(0.3, 0.48), rng.uniform(0, 2 * math.pi)
            sweep = rng.uniform(0.3, 1.2)
            arc = [turn + sweep * t for t in _SHARES]
            line = [(centre[0] + radius * width * math.cos(a), centre[1] + radius * height * math.sin(a)) for a in arc]
            pen.line([(float(x), float(y)) for x, y in line], fill=opacity, width=thick)
    image.paste(colour, (0, 0), layer.filter(ImageFilter.GaussianBlur(max(width, height) / 600)))
    return np.asarray(image), mask


def _from_centre(rgb: Bytes, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(H, W) distance from about the middle, 1 at the nearer edge."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width]
    cy, cx = np.array([height, width]) * (0.5 + rng.uniform(-0.04, 0.04, 2))
    out: npt.NDArray[np.float64] = np.hypot(y - cy, x - cx) / (min(height, width) / 2)
    return out


def _frame(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    distance = _from_centre(rgb, rng)
    darker = 1 - 0.7 * strength * np.clip(distance - 0.35, 0, 1) ** 2
    edge = 1.45 - 0.5 * strength
    inside = 1 / (1 + np.exp(np.minimum((distance - edge) * 60, 50)))
    return _light(rgb, darker * inside), mask


def _bubbles(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    side = max(height, width)
    light = np.zeros((height, width))

    def around(cy: float, cx: float, reach: float) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
        """The part of the photo within a reach of a point, and the distance from it."""
        rows = slice(max(0, int(cy - reach)), max(0, int(cy + reach) + 1))
        columns = slice(max(0, int(cx - reach)), max(0, int(cx + reach) + 1))
        y, x = np.ogrid[rows.start : min(rows.stop, height), columns.start : min(columns.stop, width)]
        return (rows, columns), np.hypot(y - cy, x - cx)

    for _ in range(round(1 + 24 * strength)):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), side * rng.uniform(0.008, 0.05)
        part, distance = around(cy, cx, 1.5 * radius)
        light[part] += 0.45 * np.exp(-(((distance / radius - 1) / 0.15) ** 2)) - 0.08 * (distance < 0.9 * radius)
    for _ in range(round(1 + 5 * strength)):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), side * rng.uniform(0.01, 0.04)
        part, distance = around(cy, cx, 4 * radius)
        light[part] += 1.2 * np.exp(-((distance / radius) ** 2) / 2)
    added = rgb + 255 * (0.4 + 0.6 * strength) * light[..., None]
    return np.clip(np.rint(added), 0, 255).astype(np.uint8), mask


def _colour(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    warmer = 0.3 * strength * _either(rng)
    gamma = (1.5 if rng.random() < 0.5 else 0.7) ** (strength * rng.uniform(0.5, 1))
    seen = (rgb / 255) ** gamma * [1 + warmer, 1.0, 1 - warmer]
    return np.clip(np.rint(255 * seen), 0, 255).astype(np.uint8), mask


def _blur(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    side = max(rgb.shape[:2])
    if rng.random() < 0.5:
        return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(0.015 * strength * side))), mask
    from scipy.ndimage import shift

    turn, length = rng.uniform(0, math.pi), 0.05 * strength * side
    steps = np.linspace(-0.5, 0.5, 9) * length
    moved = [
        shift(rgb.astype(np.float32), (s * math.sin(turn), s * math.cos(turn), 0), order=1, mode="nearest")
        for s in steps
    ]
    return np.clip(np.rint(np.mean(moved, axis=0)), 0, 255).astype(np.uint8), mask


def _compression(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    scale = 0.7 - 0.4 * strength
    small = (max(8, round(width * scale)), max(8, round(height * scale)))
    buffer = io.BytesIO()
    image = Image.fromarray(rgb).resize(small, Image.Resampling.BILINEAR)
    image.save(buffer, "JPEG", quality=round(60 - 40 * strength))
    back = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(back), mask


def _distance(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    away = 1 + 1.5 * strength
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    seen = 0.5 + (corners - 0.5) / away + rng.uniform(-0.08, 0.08, (4, 2)) * strength
    size = np.array([width, height])
    matrix = _perspective(seen * size, corners * size)
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    skin = tuple(int(v) for v in np.median(border, axis=0))
    how = {"size": (width, height), "method": Image.Transform.PERSPECTIVE, "data": matrix}
    # The skin around goes on in the colour of the photo's border, so that no edge shows where the photo ended.
    image = Image.fromarray(rgb)
    inner = Image.new("L", (width, height), 0)
    rim = max(2, round(min(width, height) * 0.06))
    inner.paste(255, (rim, rim, width - rim, height - rim))
    soft = inner.filter(ImageFilter.GaussianBlur(rim / 2))
    out = Image.composite(
        image.transform(resample=Image.Resampling.BICUBIC, fillcolor=skin, **how),  # type: ignore[arg-type]
        Image.new("RGB", (width, height), skin),
        soft.transform(resample=Image.Resampling.BILINEAR, **how),  # type: ignore[arg-type]
    )
    if mask is None:
        return np.asarray(out), None
    moved = Image.fromarray(mask.astype(np.uint8) * 255).transform(resample=Image.Resampling.NEAREST, **how)  # type: ignore[arg-type]
    return np.asarray(out), np.asarray(moved) > 127


def _perspective(new: npt.NDArray[np.float64], old: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The eight numbers by which PIL finds the old place of a new one, from four corners (4, 2) of both."""
    rows, sought = [], []
    for (x, y), (u, v) in zip(new, old, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        sought += [u, v]
    return tuple(float(v) for v in np.linalg.solve(np.array(rows), np.array(sought)))


def _shadow(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None] - 0.5
    turn, place, soft = rng.uniform(0, 2 * math.pi), rng.uniform(-0.25, 0.25), rng.uniform(0.05, 0.25)
    dark = 1 / (1 + np.exp((math.cos(turn) * x + math.sin(turn) * y - place) / (soft / 4)))
    return _light(rgb, 1 - 0.65 * strength * dark), mask


def _skin_tone(rgb: Bytes, mask: Mask | None, strength: float, rng: np.random.Generator) -> Seen:
    lab = to_lab(rgb)
    by = strength * (rng.uniform(-25, -8) if rng.random() < 0.7 else rng.uniform(3, 10))
    where = np.ones(rgb.shape[:2])
    if mask is not None and mask.any():
        soft = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(max(rgb.shape[:2]) / 60))
        where = 1 - np.asarray(soft) / 255
    lab[..., 0] = np.clip(lab[..., 0] + by * where, 0, 100)
    return from_lab(lab), mask


def _light(rgb: Bytes, factor: npt.NDArray[np.float64]) -> Bytes:
    return np.clip(np.rint(rgb * factor[..., None]), 0, 255).astype(np.uint8)


def _either(rng: np.random.Generator) -> float:
    """-1 to -1/2, or 1/2 to 1."""
    return float(rng.uniform(0.5, 1) * (1 if rng.random() < 0.5 else -1))


_TRANSFORMS: tuple[Transform, ...] = (
    _hair, _marks, _frame, _bubbles, _colour, _blur, _compression, _distance, _shadow, _skin_tone,
)  # fmt: skip
META_DOMAINS: Mapping[str, Transform] = dict(zip(protocol.META_DOMAINS, _TRANSFORMS, strict=True))
"""Name -> transform, m1 to m10."""


def shown_through(rgb: Bytes, name: str, strength: float, seed: Sequence[int] | int, mask: Mask | None = None) -> Seen:
    """A photo as a meta-domain would show it.

    Args:
        rgb: (H, W, 3).
        name: of :data:`META_DOMAINS`.
        strength: 0 to 1; 0 leaves the photo as it is.
        seed: of its random numbers.
        mask: (H, W) lesion, where it is known; ``distance`` moves it too.
    """
    if strength <= 0:
        return rgb, mask
    return META_DOMAINS[name](rgb, mask, min(strength, 1.0), np.random.default_rng(seed))


# ---------------------------------------------------------------------------------------------- artefacts of photos
@dataclass(frozen=True)
class Artefacts:
    """Artefacts cut out of real images, as the difference of a strip with and without one.

    Attributes:
        pairs: kind -> files with and without it.
        sources: ids of the images that they were cut from, which may not be tested on.
    """

    pairs: Mapping[str, Sequence[tuple[Path, Path]]]
    sources: frozenset[str]

    @staticmethod
    def of(folder: Path) -> Artefacts:
        """The strips below a folder, ``<image>_with_<n>.png`` beside ``<image>_without_<n>.png``.

        ``meta.json`` names the kind of each image's artefacts, as in the collection of Katsch et al., Dermatology
        Practical & Conceptual 12(3), 2022, doi 10.5826/dpc.1203a126; without it all are of one kind.

        Raises:
            InputError: there is none.
        """
        import json

        kinds: dict[str, str] = {}
        for file in sorted(folder.rglob("meta.json")):
            try:
                listed = json.loads(file.read_text(encoding="utf-8"))["artefacts"]
                kinds |= {str(one["name"]): str(one["class"]) for one in listed}
            except (ValueError, TypeError, KeyError, AttributeError):
                raise InputError(
                    f"{file} does not name the artefacts",
                    'an object with "artefacts": a list of objects with "name" and "class"',
                    "correct it, or remove it",
                ) from None
        pairs: dict[str, list[tuple[Path, Path]]] = {}
        for shown in sorted(folder.rglob("*_with_*.png")):
            plain = shown.with_name(shown.name.replace("_with_", "_without_"))
            if plain.is_file():
                with Image.open(shown) as one, Image.open(plain) as other:
                    if one.size != other.size:
                        raise InputError(
                            f"{shown.name} has {one.size} pixels, {plain.name} {other.size}",
                            "the same strip with and without its artefact",
                            "remove the pair",
                        )
                source = shown.name.partition("_with_")[0]
                pairs.setdefault(kinds.get(source, "artefact"), []).append((shown, plain))
        if not pairs:
            raise InputError(
                f"{folder}: no strip NAME_with_N.png beside NAME_without_N.png",
                "artefacts cut out of images",
                "name the folder of the collection",
            )
        sources = frozenset(a.name.partition("_with_")[0] for of in pairs.values() for a, _ in of)
        return Artefacts(pairs, sources)

    def laid_on(self, rgb: Bytes, kind: str, strength: float, seed: Sequence[int] | int) -> Bytes:
        """A photo (H, W, 3) with one artefact of a kind, somewhere on it and turned by quarters."""
        if strength <= 0:
            return rgb
        rng = np.random.default_rng(seed)
        files = self.pairs[kind][int(rng.integers(len(self.pairs[kind])))]
        shown, plain = (np.asarray(Image.open(file).convert("RGB"), dtype=np.float64) for file in files)
        added = np.rot90(shown - plain, int(rng.integers(4)))
        height, width = rgb.shape[:2]
        scale = (0.35 + 0.65 * strength) * min(width / added.shape[1], height / added.shape[0])
        size = max(1, round(added.shape[1] * scale)), max(1, round(added.shape[0] * scale))
        layers = [
            np.asarray(Image.fromarray(added[..., c].astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
            for c in range(3)
        ]
        top, left = int(rng.integers(height - size[1] + 1)), int(rng.integers(width - size[0] + 1))
        out = rgb.astype(np.float64)
        out[top : top + size[1], left : left + size[0]] += strength * np.stack(layers, axis=-1)
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
