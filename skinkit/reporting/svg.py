"""Figures on a page: sanitised SVG of other programs, and the pages' own small drawings.

The policy of a page forbids inline styles, so colours are presentation attributes; labels are text elements, so that
every writing system is displayed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from markupsafe import Markup, escape

from skinkit.figures.canvas import BOX, INK, LINE, MUTED, PAPER, TONES, TRACK

_XLINK = "http://www.w3.org/1999/xlink"
_ELEMENTS = frozenset({
    "svg", "g", "defs", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "use",
    "clipPath", "linearGradient", "stop", "title", "desc", "image",
})  # fmt: skip
_GEOMETRY = frozenset({
    "id", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "ry", "dx", "dy", "width", "height", "points",
    "transform", "viewBox", "preserveAspectRatio", "offset", "gradientUnits", "clipPathUnits", "gradientTransform",
})  # fmt: skip
_PAINT = frozenset({
    "fill", "fill-opacity", "fill-rule", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray",
    "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "opacity", "clip-path", "clip-rule",
    "stop-color", "stop-opacity", "font-size", "font-weight", "font-style", "text-anchor", "dominant-baseline",
    "visibility", "image-rendering",
})  # fmt: skip
_OWN_REFERENCE = re.compile(r"^url\(#([\w.-]+)\)$")
_PICTURE = re.compile(r"^data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]+$")
_PX_PER_PT = 4 / 3
_FONT = re.compile(r"(?P<weight>\bbold\b|\b[1-9]00\b)?\s*(?P<size>[\d.]+)px")

BLUE, ALARM = TONES["plain"], TONES["alarm"]


class UnsafeFigureError(ValueError):
    """An SVG that cannot be sanitised."""


def clean(text: str, prefix: str, *, label: str = "", translate: Callable[[str], str] | None = None) -> Markup:
    """An SVG document as sanitised inline SVG.

    Only allowed elements and attributes are kept; references outside the document are removed; styles become
    presentation attributes; ids get a prefix, so that several figures fit on one page.

    Args:
        text: the document.
        prefix: put before every id, ASCII.
        label: text for screen readers.
        translate: translates a label.

    Raises:
        UnsafeFigureError: not SVG, or it declares entities.
    """
    if "<!ENTITY" in text:
        raise UnsafeFigureError("the figure declares entities")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise UnsafeFigureError(str(error)) from None
    if _local(root.tag) != "svg":
        raise UnsafeFigureError(f"the figure is <{_local(root.tag)}>, not <svg>")
    if "viewBox" not in root.attrib:
        width, height = (re.sub(r"[^\d.]", "", root.get(side, "")) or "100" for side in ("width", "height"))
        root.set("viewBox", f"0 0 {width} {height}")
    for side in ("width", "height"):
        root.attrib.pop(side, None)
    root.set("width", f"{_PX_PER_PT * float(root.attrib['viewBox'].split()[2]):.0f}")
    parts: list[str] = []
    _write(root, prefix, translate, parts, label)
    return Markup("".join(parts))


def _write(
    element: ET.Element, prefix: str, translate: Callable[[str], str] | None, out: list[str], label: str = ""
) -> None:
    name = _local(element.tag)
    attributes = _attributes(element, prefix)
    if name == "svg":
        attributes |= {"class": "figure", "role": "img", "aria-label": label}
    if name == "image" and "href" not in attributes:
        return
    out.append(f"<{name}" + "".join(f' {key}="{escape(value)}"' for key, value in attributes.items()) + ">")
    if name in ("text", "tspan", "title", "desc"):
        out.append(escape(_said(element.text, translate)))
    for child in element:
        if isinstance(child.tag, str) and _local(child.tag) in _ELEMENTS:
            _write(child, prefix, translate, out)
        if name == "text":
            out.append(escape(child.tail or ""))
    out.append(f"</{name}>")


def _said(text: str | None, translate: Callable[[str], str] | None) -> str:
    words = text or ""
    return translate(words) if translate is not None and words.strip() else words


def _attributes(element: ET.Element, prefix: str) -> dict[str, str]:
    """The attributes to keep; a style overrides an attribute, as in a browser."""
    found: dict[str, str] = {}
    declared = _declarations(element.get("style", ""))
    for raw, value in {**element.attrib, **declared}.items():
        name = _local(raw)
        if name == "id":
            found["id"] = prefix + value
        elif name == "href" and (raw == "href" or raw.startswith(f"{{{_XLINK}}}")):
            if value.startswith("#"):
                found["href"] = "#" + prefix + value[1:]
            elif _PICTURE.match(value) and _local(element.tag) == "image":
                found["href"] = re.sub(r"\s+", "", value)
        elif raw in _GEOMETRY:
            found[raw] = value
        elif raw in _PAINT:
            own = _OWN_REFERENCE.match(value.strip())
            if own is not None:
                found[raw] = f"url(#{prefix}{own[1]})"
            elif "url(" not in value:
                found[raw] = value
    return found


def _declarations(style: str) -> dict[str, str]:
    """``name: value`` pairs of a style attribute; the family of the ``font`` shorthand is dropped."""
    found: dict[str, str] = {}
    for part in style.split(";"):
        name, colon, value = part.partition(":")
        name, value = name.strip(), value.strip()
        if not colon:
            continue
        if name == "font":
            match = _FONT.search(value)
            if match:
                found["font-size"] = match["size"]
                if match["weight"]:
                    found["font-weight"] = match["weight"]
        elif name in _PAINT:
            found[name] = value
    return found


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


# ---------------------------------------------------------------------------------------------------- own drawings


def _text(
    x: float, y: float, words: str, *, fill: str = INK, size: float = 13, anchor: str = "", bold: bool = False
) -> str:
    extra = f' text-anchor="{anchor}"' if anchor else ""
    extra += ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}"{extra}>{escape(words)}</text>'


def _open(width: float, height: float, label: str, kind: str, *, stretched: bool = False) -> str:
    ratio = 'preserveAspectRatio="none" ' if stretched else ""
    return f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" {ratio}role="img" aria-label="{escape(label)}">'


def malignancy_bar(value: float, threshold: float, label: str, threshold_label: str, *, alarm: bool) -> Markup:
    """Malignancy from 0 to 1 as a bar with the alarm threshold marked.

    Args:
        value: 0 to 1.
        threshold: 0 to 1.
        label: text for screen readers.
        threshold_label: text beside the mark.
        alarm: whether to draw in the alarm's colour.
    """
    left, width, top, height = 4, 392, 20, 18
    at = left + width * min(max(threshold, 0.0), 1.0)
    end = width * min(max(value, 0.0), 1.0)
    anchor, shift = ("end", -4) if threshold > 0.6 else ("", 4)
    parts = [
        _open(400, 56, label, "bar"),
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="3" fill="{TRACK}" stroke="{LINE}"/>',
        f'<rect x="{left}" y="{top}" width="{end:.2f}" height="{height}" rx="3" fill="{ALARM if alarm else BLUE}"/>',
        f'<line x1="{at:.2f}" x2="{at:.2f}" y1="6" y2="{top + height + 5}" stroke="{INK}" stroke-width="2"/>',
        _text(at + shift, 14, threshold_label, size=12, anchor=anchor),
        *(
            _text(left + width * t, 53, f"{100 * t:g}" + (" %" if t == 1 else ""), fill=MUTED, size=11, anchor=a)
            for t, a in _TICKS
        ),
        "</svg>",
    ]
    return Markup("".join(parts))


_TICKS = ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))


def small_bar(value: float, label: str, *, threshold: float | None = None, alarm: bool = False) -> Markup:
    """A share from 0 to 1 as a thin bar, with a mark at the threshold, if any."""
    end = 100 * min(max(value, 0.0), 1.0)
    parts = [
        _open(100, 8, label, "small-bar", stretched=True),
        f'<rect x="0" y="1" width="100" height="6" fill="{TRACK}"/>',
        f'<rect x="0" y="1" width="{end:.2f}" height="6" fill="{ALARM if alarm else BLUE}"/>',
    ]
    if threshold is not None:
        parts.append(f'<rect x="{100 * threshold:.2f}" y="0" width="0.9" height="8" fill="{INK}"/>')
    return Markup("".join([*parts, "</svg>"]))


def signed_bar(value: float, largest: float, label: str) -> Markup:
    """A contribution left (against) or right (for) of a middle line; ``largest`` fills half of the width."""
    size = 50 * min(abs(value) / largest, 1.0) if largest > 0 else 0.0
    x = 50.0 if value >= 0 else 50.0 - size
    parts = [
        _open(100, 8, label, "small-bar", stretched=True),
        f'<rect x="{x:.2f}" y="1" width="{size:.2f}" height="6" fill="{ALARM if value >= 0 else BLUE}"/>',
        f'<rect x="49.7" y="0" width="0.6" height="8" fill="{MUTED}"/>',
        "</svg>",
    ]
    return Markup("".join(parts))


def whisker(estimate: float, lower: float, upper: float, label: str) -> Markup:
    """An estimate with its interval on a scale from 0 to 1; NaN leaves a part out."""

    def at(value: float) -> float:
        return 6 + 188 * min(max(value, 0.0), 1.0)

    parts = [
        _open(200, 16, label, "whisker"),
        f'<line x1="{at(0):g}" x2="{at(1):g}" y1="8" y2="8" stroke="{LINE}"/>',
        *(f'<line x1="{at(t):g}" x2="{at(t):g}" y1="5" y2="11" stroke="{LINE}"/>' for t in (0, 0.5, 1)),
    ]
    if not (math.isnan(lower) or math.isnan(upper)):
        parts.append(
            f'<line x1="{at(lower):.2f}" x2="{at(upper):.2f}" y1="8" y2="8" stroke="{BLUE}" stroke-width="4" '
            'stroke-linecap="round" stroke-opacity="0.45"/>'
        )
    if not math.isnan(estimate):
        parts.append(f'<circle cx="{at(estimate):.2f}" cy="8" r="5" fill="{BLUE}"/>')
    return Markup("".join([*parts, "</svg>"]))


@dataclass(frozen=True)
class FlowBox:
    """One box of the flow diagram and the exclusions before it.

    Attributes:
        title: the counted items.
        count: their number.
        notes: lines below the count.
        losses: lines of the box to the right, each an exclusion with its count.
    """

    title: str
    count: int
    notes: Sequence[str] = ()
    losses: Sequence[str] = field(default_factory=tuple)


_BOX_WIDTH, _SIDE_WIDTH, _GAP, _ROW = 320, 380, 50, 18


def flow(steps: Sequence[FlowBox], label: str) -> Markup:
    """A flow diagram from top to bottom, with exclusions to the right."""
    width = _BOX_WIDTH + _GAP + _SIDE_WIDTH + 4
    y = 2.0
    parts: list[str] = []
    for index, step in enumerate(steps):
        losses = [line for loss in step.losses for line in wrapped(loss, _SIDE_WIDTH - 24)]
        if index:
            # The arrow to this box; exclusions branch off half-way.
            side = len(losses) * _ROW + 14 if losses else 0
            gap = max(26.0, side + 20)
            parts.append(_arrow(_BOX_WIDTH / 2, y, _BOX_WIDTH / 2, y + gap))
            if losses:
                middle = y + gap / 2
                parts.append(_arrow(_BOX_WIDTH / 2, middle, _BOX_WIDTH + _GAP, middle))
                top = middle - side / 2
                parts.append(_box(_BOX_WIDTH + _GAP + 2, top, _SIDE_WIDTH, side, PAPER))
                parts += [
                    _text(_BOX_WIDTH + _GAP + 14, top + 19 + i * _ROW, line, fill=MUTED)
                    for i, line in enumerate(losses)
                ]
            y += gap
        notes = [line for note in step.notes for line in wrapped(note, _BOX_WIDTH - 24)]
        count = f"{step.count:,}"
        titles = wrapped(step.title, _BOX_WIDTH - 40 - text_width(count, 14), 14)
        below = y + 20 + len(titles) * _ROW
        height = 12 + (len(titles) + len(notes)) * _ROW + (4 if notes else 0)
        parts.append(_box(2, y, _BOX_WIDTH, height, BOX))
        parts += [_text(14, y + 20 + i * _ROW, line, size=14) for i, line in enumerate(titles)]
        parts.append(_text(_BOX_WIDTH - 10, y + 20, count, size=14, anchor="end", bold=True))
        parts += [_text(14, below + i * _ROW, line, fill=MUTED) for i, line in enumerate(notes)]
        y += height
    return Markup("".join([_open(width, y + 2, label, "flow"), *parts, "</svg>"]))


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" stroke="{LINE}" '
        'stroke-width="1.2"/>'
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    head = (
        f"M{x2 - 4:g} {y2 - 7:g} L{x2:g} {y2:g} L{x2 + 4:g} {y2 - 7:g}"
        if x1 == x2
        else f"M{x2 - 7:g} {y2 - 4:g} L{x2:g} {y2:g} L{x2 - 7:g} {y2 + 4:g}"
    )
    return f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g} {head}" fill="none" stroke="{MUTED}" stroke-width="1.2"/>'


def text_width(words: str, size: float = 13) -> float:
    """Approximate width of a line, in the figure's units; ideographs are as wide as high."""
    return sum(1.0 if ord(letter) > 0x2E7F else 0.55 for letter in words) * size


def wrapped(words: str, width: float, size: float = 13) -> list[str]:
    """A text wrapped at spaces, or between ideographs."""
    lines: list[str] = []
    line = ""
    for token in re.findall(r"[^\s\u2e80-\uffff]+\s*|[\u2e80-\uffff]|\s+", words):
        if line and text_width(line + token.rstrip(), size) > width:
            lines.append(line.rstrip())
            line = ""
        line += token
    return [*lines, line.rstrip()] if line.strip() else lines
