"""Outlines and heatmaps on photographs, and contact sheets, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.figures.canvas import canvas, write


# ------------------------------------------------------------------------------------------------ on photographs
def overlay(rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> bytes:
    """The photograph with the outline of the lesion, as PNG: a bright line between two dark ones shows on any skin.

    Args:
        rgb: (H, W, 3).
        mask: (H, W); an empty mask leaves the photograph as it is.
    """
    from skinkit.images.encode import png_bytes

    return png_bytes(outlined(rgb, mask))


OUTLINE = (64, 244, 255)
"""Colour of outlines: cyan, which skin never is."""


def outlined(
    rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], colour: tuple[int, int, int] = OUTLINE
) -> npt.NDArray[np.uint8]:
    """The pixels of :func:`overlay`, (H, W, 3); the line is about 1/170 of the longer side wide."""
    from scipy.ndimage import distance_transform_edt

    _same_size(rgb, mask)
    inside = np.asarray(mask, dtype=bool)
    if not inside.any() or inside.all():
        return rgb.copy()
    width = max(1.6, max(inside.shape) / 170)
    reach = int(np.ceil(2 * width)) + 2
    window = _window(inside, reach)
    part = inside[window]
    # Distance to the border between pixels, positive outside: the line gets smooth edges from it.
    border = np.where(part, 0.5 - distance_transform_edt(part), distance_transform_edt(~part) - 0.5)
    halo = np.clip(1.1 * width + 0.5 - np.abs(border), 0, 1)[..., None] * 0.65
    line = np.clip(0.5 * width + 0.5 - np.abs(border), 0, 1)[..., None]
    picture = rgb.copy()
    pixels = picture[window].astype(np.float64)
    pixels = pixels * (1 - halo)
    pixels = pixels * (1 - line) + np.array(colour, dtype=np.float64) * line
    picture[window] = pixels.round().astype(np.uint8)
    return picture


def _window(mask: npt.NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


PREDICTED = ((255, 96, 208), (255, 221, 64))
"""Colours of predicted outlines beside a person's: magenta and yellow, lighter for the colour-blind than any lesion."""


def contact_sheet(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    folder: Path,
    stem: str,
    *,
    names: Sequence[str] = ("predicted",),
    title: str = "",
) -> dict[str, str]:
    """Photographs with the outline a person drew and one or two predicted ones, in rows, as SVG and PNG.

    Args:
        rows: name of each row -> pictures with ``rgb`` (H, W, 3), ``truth`` (H, W), ``predicted``, for each of
            ``names`` (H, W), and ``text``.
        folder: where it is written.
        stem: of the files' names.
        names: whose predictions they are.
        title: above the sheet.
    """
    from matplotlib.lines import Line2D

    across = max(len(pictures) for pictures in rows.values())
    height = 1.95 + 0.13 * max(1, *(one["text"].count("\n") + 1 for pictures in rows.values() for one in pictures))
    with canvas(1.75 * across + 0.5, height * len(rows) + 0.6) as figure:
        grid = figure.subplots(len(rows), across, squeeze=False)
        for line, (name, pictures) in zip(grid, rows.items(), strict=True):
            for place, axes in enumerate(line):
                axes.set_axis_off()
                if place >= len(pictures):
                    continue
                one = pictures[place]
                picture = outlined(one["rgb"], one["truth"])
                for mask, colour in zip(one["predicted"], PREDICTED, strict=False):
                    picture = outlined(picture, mask, colour)
                axes.imshow(picture)
                axes.text(0.5, -0.03, one["text"], transform=axes.transAxes, ha="center", va="top", fontsize=7.5)
                if place == 0:
                    where = {"transform": axes.transAxes, "ha": "right", "va": "center", "rotation": 90}
                    axes.text(-0.05, 0.5, name, fontsize=9, fontweight="bold", **where)
        lines = [
            Line2D([], [], color="#{:02x}{:02x}{:02x}".format(*colour), linewidth=2.4, label=label)
            for colour, label in zip((OUTLINE, *PREDICTED), ("drawn by a person", *names), strict=False)
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=3)
        if title:
            figure.suptitle(title, fontsize=10, fontweight="bold")
        return write(figure, folder, stem)


def synthetic_sheet(images: Sequence[npt.NDArray[np.uint8]], title: str) -> bytes:
    """Synthetic images in rows under a title, as PNG; the word is drawn into each of them.

    Args:
        images: (side, side, 3), all of one size.
        title: above them.
    """
    from PIL import Image, ImageDraw, ImageFont

    from skinkit.images.encode import png_bytes, resize

    tile, margin, across = 160, 8, min(6, len(images))
    down, font = -(-len(images) // across), ImageFont.load_default(size=15)
    width = max(across * (tile + margin) + margin, int(font.getlength(title)) + 2 * margin)
    sheet = Image.new("RGB", (width, down * (tile + margin) + 40), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((margin, 10), title, fill="black", font=font)
    for place, image in enumerate(images):
        left, top = margin + place % across * (tile + margin), 40 + place // across * (tile + margin)
        sheet.paste(Image.fromarray(resize(image, (tile, tile))), (left, top))
        where = (left + tile // 2, top + tile - 4)
        pen.text(where, "synthetic", fill="white", font=font, anchor="mb", stroke_width=2, stroke_fill="black")
    return png_bytes(np.asarray(sheet), {"Title": title, "synthetic": "yes: not photos"})


def nearest_sheet(pairs: Sequence[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], str]], title: str) -> bytes:
    """Synthetic images, each beside the photo that is nearest to it, as PNG; in each stands what it is.

    Args:
        pairs: image and photo, (side, side, 3), and what is written below them.
        title: above them.
    """
    from PIL import Image, ImageDraw, ImageFont

    from skinkit.images.encode import png_bytes, resize

    tile, margin, gap, across = 150, 8, 18, min(3, len(pairs))
    down, font, small = -(-len(pairs) // across), ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    wide, high = 2 * tile + margin + gap, tile + 28
    sheet = Image.new("RGB", (max(across * wide, int(font.getlength(title))) + margin, down * high + 40), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((margin, 10), title, fill="black", font=font)
    for place, (image, photo, text) in enumerate(pairs):
        left, top = margin + place % across * wide, 40 + place // across * high
        for k, (rgb, word) in enumerate(((image, "synthetic"), (photo, "photo"))):
            x = left + k * (tile + margin)
            sheet.paste(Image.fromarray(resize(rgb, (tile, tile))), (x, top))
            where = (x + tile // 2, top + tile - 4)
            pen.text(where, word, fill="white", font=small, anchor="mb", stroke_width=2, stroke_fill="black")
        pen.text((left, top + tile + 5), text, fill="black", font=small)
    return png_bytes(np.asarray(sheet), {"Title": title})


def paired_sheet(pairs: Sequence[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], str]]) -> bytes:
    """Pairs of photographs side by side, two pairs in a row, as PNG.

    Args:
        pairs: two (H, W, 3) of any size, and what is written below them.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    from skinkit.images.encode import png_bytes

    tile, margin, across = 240, 10, min(2, len(pairs))
    down, font = -(-len(pairs) // across), ImageFont.load_default(size=13)
    wide = max(2 * tile + margin, *(int(font.getlength(text)) for _, _, text in pairs)) + 3 * margin
    sheet = Image.new("RGB", (across * wide + margin, down * (tile + 40) + margin), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (*both, text) in enumerate(pairs):
        left, top = margin + place % across * wide, margin + place // across * (tile + 40)
        for k, rgb in enumerate(both):
            photo = ImageOps.contain(Image.fromarray(rgb), (tile, tile))
            x, y = left + k * (tile + margin) + (tile - photo.width) // 2, top + (tile - photo.height) // 2
            sheet.paste(photo, (x, y))
        pen.text((left, top + tile + 6), text, fill="black", font=font)
    return png_bytes(np.asarray(sheet))


def heatmap_overlay(
    rgb: npt.NDArray[np.uint8], heat: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None = None
) -> bytes:
    """The photograph, greyed, under a heatmap, as PNG.

    Args:
        rgb: (H, W, 3).
        heat: (H, W), 0 to 1, or 0 to 255 where it is uint8; weak support stays transparent.
        mask: (H, W) lesion to outline, where it should be shown too.
    """
    from skinkit.images.encode import png_bytes

    return png_bytes(heated(rgb, heat, mask))


def heated(
    rgb: npt.NDArray[np.uint8], heat: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.uint8]:
    """The pixels of :func:`heatmap_overlay`, (H, W, 3)."""
    import matplotlib as mpl

    from skinkit.images.encode import grey

    _same_size(rgb, heat)
    support = heat.astype(np.float64) / (255 if heat.dtype == np.uint8 else 1)
    support = np.clip(np.nan_to_num(support), 0, 1)
    # viridis: perceptually even, and its green to yellow is what skin is not.
    shades = (mpl.colormaps["viridis"](np.linspace(0, 1, 256))[:, :3] * 255)[(support * 255).astype(np.int64)]
    pale = 0.45 * rgb.astype(np.float64) + 0.55 * grey(rgb)[..., None]
    opacity = (0.65 * np.clip((support - 0.1) / 0.5, 0, 1))[..., None]
    picture: npt.NDArray[np.uint8] = (pale * (1 - opacity) + shades * opacity).round().astype(np.uint8)
    return picture if mask is None else outlined(picture, mask)


def _same_size(rgb: npt.NDArray[np.uint8], other: npt.NDArray[Any]) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[:2] != other.shape:
        raise ValueError(f"a photograph of shape {rgb.shape} and a map of shape {other.shape}")
