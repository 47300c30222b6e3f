"""Copies of a photo as collections have them: turned, cropped, bordered, re-encoded, overlaid, and two at once."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Draw = Callable[[Image.Image, np.random.Generator], Image.Image]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(io.BytesIO(sink.getvalue())).convert("RGB")


def _scaled(image: Image.Image, factor: float, aspect: float = 1.0) -> Image.Image:
    w, h = image.size
    return image.resize((max(8, round(w * factor * aspect)), max(8, round(h * factor))), Image.Resampling.BICUBIC)


def _crop(image: Image.Image, share: float, x: float = 0.5, y: float = 0.5) -> Image.Image:
    w, h = image.size
    left, top = (1 - share) * w * x, (1 - share) * h * y
    return image.crop((round(left), round(top), round(left + share * w), round(top + share * h)))


def _corner(image: Image.Image, rng: np.random.Generator, share: float) -> Image.Image:
    return _crop(image, share, *(float(v) for v in rng.choice([0.0, 1.0], 2)))


def _bordered(image: Image.Image, share: float, colour: tuple[int, int, int]) -> Image.Image:
    return ImageOps.expand(image, round(share * min(image.size)), colour)


def _one_sided(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    band = round(0.15 * image.height)
    return ImageOps.expand(image, (0, band, 0, 0) if rng.random() < 0.5 else (0, 0, 0, band), (0, 0, 0))


def _frame(image: Image.Image) -> Image.Image:
    return _bordered(_bordered(image, 0.03, (250, 250, 245)), 0.05, (40, 60, 120))


def _vignette(image: Image.Image) -> Image.Image:
    """The round field of a dermoscope, black outside."""
    w, h = image.size
    y, x = np.mgrid[:h, :w]
    radius = np.hypot((x - w / 2) / (w / 2), (y - h / 2) / (h / 2))
    field = np.clip((1.08 - radius) / 0.06, 0, 1)[..., None]
    return Image.fromarray((np.asarray(image) * field).astype(np.uint8))


def _turned(image: Image.Image, degrees: float, *, black: bool = False) -> Image.Image:
    """Turned by a small angle: cropped to what the photo still covers, or with black corners."""
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=False, fillcolor=(0, 0, 0))
    if black:
        return turned
    w, h = image.size
    a = np.radians(abs(degrees))
    share = min(1 / (np.cos(a) + np.sin(a) * max(w / h, h / w)), 1.0)
    return _crop(turned, float(share))


def _tinted(image: Image.Image, factors: tuple[float, float, float]) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(image) * np.array(factors), 0, 255).astype(np.uint8))


def _gamma(image: Image.Image, power: float) -> Image.Image:
    return Image.fromarray((255 * (np.asarray(image) / 255) ** power).astype(np.uint8))


def _hue(image: Image.Image, shift: int) -> Image.Image:
    hsv = np.asarray(image.convert("HSV")).copy()
    hsv[..., 0] += np.uint8(shift)
    return Image.fromarray(hsv, "HSV").convert("RGB")


def _overlay(image: Image.Image) -> Image.Image:
    """A ruler along the lower edge, a label, and an arrow."""
    out, (w, h) = image.copy(), image.size
    draw = ImageDraw.Draw(out)
    for i in range(24):
        draw.line([(w * i / 24, h), (w * i / 24, h * (0.9 if i % 4 == 0 else 0.94))], (20, 20, 20), max(1, w // 200))
    draw.rectangle([(0.02 * w, 0.02 * h), (0.3 * w, 0.1 * h)], (255, 255, 255))
    draw.text((0.04 * w, 0.03 * h), "CASE 17 L", (0, 0, 0), font_size=max(8, round(0.06 * h)))
    draw.line([(0.75 * w, 0.2 * h), (0.6 * w, 0.4 * h)], (255, 255, 0), max(1, w // 100))
    return out


def _noisy(image: Image.Image, rng: np.random.Generator, sd: float) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, sd, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _perspective(image: Image.Image) -> Image.Image:
    w, h = image.size
    return image.transform(
        image.size, Image.Transform.QUAD, (0.04 * w, 0.02 * h, 0, h, w, 0.97 * h, 0.93 * w, 0), Image.Resampling.BICUBIC
    )


def _squared(image: Image.Image) -> Image.Image:
    return image.resize((min(image.size),) * 2, Image.Resampling.BICUBIC)


def _covered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A black bar, as over eyes or a name, somewhere."""
    out, (w, h) = image.copy(), image.size
    y = float(rng.uniform(0, 0.85)) * h
    ImageDraw.Draw(out).rectangle([(0.1 * w, y), (0.9 * w, y + 0.12 * h)], (0, 0, 0))
    return out


FLIP, FLOP = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM
LISTED: dict[str, Draw] = {
    "mirrored left to right": lambda i, r: i.transpose(FLIP),
    "mirrored top to bottom": lambda i, r: i.transpose(FLOP),
    "turned 90 degrees": lambda i, r: i.transpose(Image.Transpose.ROTATE_90),
    "turned 180 degrees": lambda i, r: i.transpose(Image.Transpose.ROTATE_180),
    "turned 270 degrees": lambda i, r: i.transpose(Image.Transpose.ROTATE_270),
    "transposed": lambda i, r: i.transpose(Image.Transpose.TRANSPOSE),
    "JPEG, quality 90": lambda i, r: _jpeg(i, 90),
    "JPEG, quality 50": lambda i, r: _jpeg(i, 50),
    "JPEG, quality 20": lambda i, r: _jpeg(i, 20),
    "brighter by 25 %": lambda i, r: ImageEnhance.Brightness(i).enhance(1.25),
    "darker by 25 %": lambda i, r: ImageEnhance.Brightness(i).enhance(0.75),
    "half size": lambda i, r: _scaled(i, 0.5),
    "cropped to 90 %": lambda i, r: _crop(i, 0.9),
    "cropped to 90 %, a corner": lambda i, r: _corner(i, r, 0.9),
    "black border of 8 %": lambda i, r: _bordered(i, 0.08, (0, 0, 0)),
    "white border of 8 %": lambda i, r: _bordered(i, 0.08, (255, 255, 255)),
    "double frame": lambda i, r: _frame(i),
    "round dermoscope field": lambda i, r: _vignette(i),
    "turned 5 degrees, cropped": lambda i, r: _turned(i, 5),
    "turned 5 degrees, black corners": lambda i, r: _turned(i, 5, black=True),
}
"""Kinds with a target."""
FURTHER: dict[str, Draw] = {
    "mirrored and cropped to 90 %": lambda i, r: _crop(i.transpose(FLIP), 0.9),
    "turned 90 degrees, corner crop of 90 %": lambda i, r: _corner(i.transpose(Image.Transpose.ROTATE_90), r, 0.9),
    "mirrored, white border, JPEG 50": lambda i, r: _jpeg(_bordered(i.transpose(FLIP), 0.08, (255,) * 3), 50),
    "cropped to 80 %": lambda i, r: _crop(i, 0.8),
    "cropped to 70 %, a corner": lambda i, r: _corner(i, r, 0.7),
    "cropped to 50 %": lambda i, r: _crop(i, 0.5),
    "turned 15 degrees, cropped": lambda i, r: _turned(i, 15),
    "turned 45 degrees, cropped": lambda i, r: _turned(i, 45),
    "black border of 25 %": lambda i, r: _bordered(i, 0.25, (0, 0, 0)),
    "black band on one side": _one_sided,
    "warmer colours": lambda i, r: _tinted(i, (1.15, 1.0, 0.8)),
    "hue shifted": lambda i, r: _hue(i, 20),
    "grey": lambda i, r: ImageOps.grayscale(i).convert("RGB"),
    "inverted": lambda i, r: ImageOps.invert(i),
    "gamma 1.6": lambda i, r: _gamma(i, 1.6),
    "contrast halved": lambda i, r: ImageEnhance.Contrast(i).enhance(0.5),
    "histogram equalised": lambda i, r: ImageOps.equalize(i),
    "ruler, label and arrow": lambda i, r: _overlay(i),
    "black bar": _covered,
    "blurred": lambda i, r: i.filter(ImageFilter.GaussianBlur(max(i.size) / 100)),
    "noise, SD 12": lambda i, r: _noisy(i, r, 12),
    "thumbnail of 96 px": lambda i, r: _scaled(i, 96 / max(i.size)),
    "zoomed by 4 %": lambda i, r: _crop(i, 0.96),
    "wider by 15 %": lambda i, r: _scaled(i, 1, 1.15),
    "squeezed to a square": lambda i, r: _squared(i),
    "perspective": lambda i, r: _perspective(i),
    "three JPEGs in sizes 1, 0.8, 1.1": lambda i, r: _jpeg(_scaled(_jpeg(_scaled(_jpeg(i, 70), 0.8), 60), 1.375), 50),
    "turned 10 degrees, mirrored, grey": lambda i, r: ImageOps.grayscale(_turned(i.transpose(FLIP), 10)).convert("RGB"),
}
"""Kinds without a target, none of which was used to choose a threshold."""
