"""The card of one lesion for a clinician: pictures, and a sentence for every number.

Pictures are small JPEG files. This module selects the statements; ``words`` has their texts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from skinkit.artifacts.file_names import as_text
from skinkit.artifacts.tables import cell_text, records
from skinkit.errors import CaseError
from skinkit.images import decode, encode, pixels
from skinkit.reporting import svg
from skinkit.reporting.evidence import (
    CohortEvidence,
    ModelEvidence,
    attributions,
    holds_every_class,
    number,
)
from skinkit.reporting.html import data_uri
from skinkit.reporting.words import Words, is_radiomic, plain
from skinkit.schemas import OK, PROBABILITY, UNTRAINED, VIEWS, probability_columns
from skinkit.stats import seven_point
from skinkit.taxonomy import POINTS

THUMBNAIL_PX = 72
OUTSIDE = 0.5
"""A smaller share of the heatmap inside the outline adds a caution."""
FITS = 0.5
"""From this overlap (IoU) with a person's outline on an outline is said to fit."""
DISAGREEMENT = 0.1
"""A larger standard deviation of malignancy over folds adds a caution."""
_STRENGTHS = {"log_odds": (1.0, 0.4), "probability": (0.15, 0.05)}
"""Unit of contributions -> thresholds of strong and of clear contributions."""
_FIRST = ("age_years", "sex", "site", "region")
_ON_PAPER = ("age_years", "sex", "site")
SIGNS = ("grew", "changed", "bleed")
"""Attributes with which a person reports a sign that is looked at whatever a program says."""
NEAR = 0.5
"""From this share of the alarm threshold on, a suspicion without alarm is called near it."""
LITTLE = 0.1
"""With a smaller share of the photo in the answer, its heatmap is left out."""
_NOT_KNOWN = ("unk", "unknown")
UNLEARNT, ALARM, CANNOT_TELL, SIGN, NEAR_ALARM, QUIET = "untrained", "alarm", "cannot_tell", "sign", "near", "none"
"""States of a lesion, most urgent first."""
STATES = (UNLEARNT, ALARM, CANNOT_TELL, SIGN, NEAR_ALARM, QUIET)


@dataclass(frozen=True)
class Lesion:
    """One prediction with the records of its photo.

    Attributes:
        row: of the predictions table.
        case: of the case table, for the image shown.
        mask: of the mask table, or empty.
        explanation: of the explanations table, or empty.
        name: its name on the pages.
        further: view -> row of the case table of a further photo of the case.
    """

    row: Mapping[str, Any]
    case: Mapping[str, Any]
    mask: Mapping[str, Any]
    explanation: Mapping[str, Any]
    name: str
    further: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Id within the cohort."""
        return f"{self.row['level']}:{self.row['case_id']}"

    @property
    def malignancy(self) -> float:
        """0 to 1."""
        return number(self.row.get("malignancy"))

    @property
    def threshold(self) -> float:
        """Alarm threshold."""
        return number(self.row.get("threshold"))

    @property
    def alarm(self) -> bool:
        """Called malignant."""
        return self.row.get("call") == "malignant"

    @property
    def refer(self) -> bool:
        """A dermatologist should look."""
        return bool(self.row.get("refer"))

    @property
    def signs(self) -> list[str]:
        """The warning signs among :data:`SIGNS` that were reported."""
        return [name for name in SIGNS if cell_text(self.case.get(name)).lower() in ("true", "yes", "1")]

    @property
    def state(self) -> str:
        """Alarm, or else a reason to look all the same: one of :data:`STATES`, without the first."""
        if self.alarm:
            return ALARM
        if self.refer:
            return CANNOT_TELL
        if self.signs:
            return SIGN
        return NEAR_ALARM if self.malignancy >= NEAR * self.threshold else QUIET

    @property
    def rules_nothing_out(self) -> bool:
        """The prediction set holds every class."""
        return holds_every_class(self.row)

    @property
    def mask_failed(self) -> bool:
        """No usable outline."""
        return bool(self.mask.get("mask_failed"))


def lesions_of(cohort: CohortEvidence, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Lesion]:
    """Prediction rows joined with case, mask and explanation of the image they show."""
    cases = {row["image_id"]: row for row in records(cohort.usable)}
    masks = {row["image_id"]: row for row in records(cohort.masks)} if cohort.masks is not None else {}
    by_image = {row["image_id"]: row for row in cohort.explanations.values()}
    views: dict[str, dict[str, Mapping[str, Any]]] = {}
    for image in sorted(cases.values(), key=lambda each: str(each["image_id"]), reverse=True):
        if image.get("view") in VIEWS:  # of several photos of a view the first by image id, as in the fused table
            views.setdefault(str(image["case_id"]), {})[str(image["view"])] = image
    return [
        Lesion(
            row=row,
            case=cases.get(row["image_id"], {}),
            mask=masks.get(row["image_id"], {}),
            explanation=cohort.explanations.get(row["case_id"]) or by_image.get(row["image_id"], {}),
            name=name,
            further={
                view: image
                for view, image in views.get(str(row["case_id"]), {}).items()
                if image["image_id"] != row["image_id"]
            },
        )
        for row, name in zip(rows, names, strict=True)
    ]


def one_per_lesion(cohort: CohortEvidence) -> list[dict[str, Any]]:
    """One prediction per lesion; a photo without a lesion id counts as its own lesion."""
    if cohort.predictions is None:
        return []
    rows = [row for row in records(cohort.predictions) if row["status"] == OK]
    whole = [row for row in rows if row["level"] == "lesion"]
    lesion_ids = {row["lesion_id"] for row in whole if row["lesion_id"]}
    case_ids = {row["case_id"] for row in whole}
    single = [
        row
        for row in rows
        if row["level"] == "image" and row["lesion_id"] not in lesion_ids and row["case_id"] not in case_ids
    ]
    return [*whole, *single]


def most_urgent_first(lesions: Sequence[Lesion]) -> list[Lesion]:
    """Referrals, then reported signs, then what is near the threshold; of each by malignancy and by uncertainty."""
    return sorted(lesions, key=lambda lesion: (max(STATES.index(lesion.state), 2), *urgency(lesion.row)))


def urgency(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort key, most urgent first: by malignancy, then by uncertainty."""
    malignancy, entropy = number(row.get("malignancy")), number(row.get("entropy"))
    return (
        -malignancy if not math.isnan(malignancy) else 1.0,
        -entropy if not math.isnan(entropy) else 1.0,
        str(row["case_id"]),
    )


# --------------------------------------------------------------------------------------------------- pictures


def picture_item(lesion: Lesion, cohort: CohortEvidence) -> dict[str, Any]:
    """Input of :func:`draw_pictures`, as plain values."""
    root = cohort.cohort.root
    mask, heat = cell_text(lesion.mask.get("mask_file")), cell_text(lesion.explanation.get("heatmap_file"))
    said = lesion.explanation
    further = {view: cell_text(said.get(f"heatmap_{view}_file")) for view in lesion.further}
    views = ("", *lesion.further)
    attention = {view: cell_text(said.get(f"attention{view and '_' + view}_file")) for view in views}
    return {
        "key": f"{cohort.name}/{lesion.key}",
        "image": str(root / cell_text(lesion.case.get("image_path"))),
        "mask": str(cohort.artifacts["masks"].path / mask) if mask and not lesion.mask_failed else "",
        "mask_sha256": cohort.artifacts["masks"].sha256_of(mask) if mask else "",
        "heat": _map_of(cohort, heat),
        "further": {view: str(root / cell_text(image.get("image_path"))) for view, image in lesion.further.items()},
        "further_heat": {view: _map_of(cohort, file) for view, file in further.items() if file},
        "attention": {view: _map_of(cohort, file) for view, file in attention.items() if file},
    }


def _map_of(cohort: CohortEvidence, file: str) -> tuple[str, str] | None:
    """Path and SHA-256 of a map of the explanations; None where there is none."""
    explanations = cohort.artifacts.get("explanations")
    return (str(explanations.path / file), explanations.sha256_of(file)) if file and explanations else None


def draw_pictures(item: Mapping[str, Any], *, image_px: int, small_px: int) -> dict[str, Any]:
    """The pictures of one lesion as JPEG bytes.

    Args:
        item: of :func:`picture_item`.
        image_px: longer side of the photo.
        small_px: longer side of the outlined photo and the heatmap.

    Returns:
        key, photo, thumbnail, outline, heat and attention (None where there is no mask or map, and empty bytes where
        the map is); further, view -> photo, heat and attention (likewise) of the further photos.

    Raises:
        CaseError: the photo cannot be read.
    """
    from skinkit.figures.photos import heatmap_overlay, overlay

    rgb, _ = decode.decode(pixels.read_bytes(Path(item["image"])))
    photo, small = encode.shrunk(rgb, image_px), encode.shrunk(rgb, small_px)
    size = (small.shape[1], small.shape[0])
    drawn = decode.read_mask(Path(item["mask"]), sha256=item["mask_sha256"]) if item["mask"] else None
    mask = encode.resize(drawn, size) if drawn is not None else None

    def painted(file: tuple[str, str] | None, rgb: np.ndarray, mask: np.ndarray | None = None) -> bytes | None:
        if file is None:
            return None
        values = _read_map(*file, rgb)
        return _jpeg(heatmap_overlay(rgb, values, mask)) if values.any() else b""

    further = {}
    for view, file in item["further"].items():
        seen = encode.shrunk(decode.decode(pixels.read_bytes(Path(file)))[0], small_px)
        maps = {kind: item[of].get(view) for kind, of in (("heat", "further_heat"), ("attention", "attention"))}
        warm = {kind: painted(there, seen) for kind, there in maps.items()}
        further[view] = {"photo": encode.jpeg_bytes(seen), **warm}
    return {
        "key": item["key"],
        "further": further,
        "photo": encode.jpeg_bytes(photo),
        "thumbnail": encode.jpeg_bytes(encode.shrunk(small, THUMBNAIL_PX), 80),
        "outline": _jpeg(overlay(small, mask)) if mask is not None and mask.any() else None,
        "heat": painted(item["heat"], small, mask),
        "attention": painted(item["attention"].get(""), small, mask),
    }


def _read_map(file: str, sha256: str, rgb: np.ndarray) -> np.ndarray:
    """uint8 (h, w) heatmap or attention at the size of a photo (h, w, 3).

    Raises:
        CaseError: it cannot be read, or is not the file that was written.
    """
    data = pixels.read_bytes(Path(file))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CaseError("heatmap_changed", f"{as_text(Path(file).name)} is not the file that was written")
    grey, _ = decode.decode(data)
    return np.asarray(encode.resize(grey, (rgb.shape[1], rgb.shape[0]))[..., 0])


def _jpeg(png: bytes) -> bytes:
    return encode.jpeg_bytes(decode.decode(png)[0])


@dataclass(frozen=True)
class Picture:
    """A picture on a page."""

    source: str
    alt: str
    caption: str


def pictures(lesion: Lesion, images: Mapping[str, Any], words: Words) -> dict[str, Picture | str]:
    """Photo, outline and heatmap as pictures, or a sentence on why there is none."""
    if images.get("status") == "failed":
        return {"photo": words("no_photo", reason=words.reason(images.get("reason") or "unsaid"))}
    by_kind: dict[str, Picture | str] = {"photo": _picture(images["photo"], "photo", lesion, words)}
    if images["outline"] is not None:
        by_kind["outline"] = _picture(images["outline"], "outline", lesion, words)
    elif lesion.mask_failed:
        by_kind["outline"] = words("no_outline")
    share = photo_share(lesion)
    if images["heat"] is None:
        by_kind["heat"] = words("no_heatmap_model" if lesion.explanation else "no_heatmap")
    elif share < LITTLE:
        by_kind["heat"] = words("little_photo", share=words.probability(share))
    else:
        by_kind["heat"] = _map(images["heat"], "heatmap", lesion, words)
    if images["attention"] is not None:
        by_kind["attention"] = _map(images["attention"], "attention", lesion, words)
    for view, files in images["further"].items():
        for kind, name in (("photo", "photo"), ("heat", "heatmap"), ("attention", "attention")):
            if files[kind] is not None and not (kind == "heat" and share < LITTLE):
                by_kind[f"{kind}_{view}"] = _map(files[kind], name, lesion, words, view)
    return by_kind


def photo_share(lesion: Lesion) -> float:
    """The share of the photo, and of what was measured in it, in all contributions, 0 to 1; NaN where it is unknown.

    It is where something else than photo and attributes counts too, such as the answer of another model.
    """
    of_photo, everything = 0.0, 0.0
    for row in attributions(lesion.explanation, limit=10_000):
        name, size = str(row["attribute"]), abs(float(row["contribution"]))
        seen = name == "image" or is_radiomic(name)
        if not seen and name not in lesion.case:
            return math.nan
        everything += size
        of_photo += size if seen else 0.0
    return of_photo / everything if everything else math.nan


def _map(data: bytes, kind: str, lesion: Lesion, words: Words, view: str = "") -> Picture | str:
    """A map over its photo, or that there is nothing on it."""
    return _picture(data, kind, lesion, words, view) if data else words("empty_map")


def _picture(data: bytes, kind: str, lesion: Lesion, words: Words, view: str = "") -> Picture:
    caption = f"{words(kind)}, {words(f'view.{view}')}" if view else words(kind)
    return Picture(data_uri(data), words(f"alt.{kind}", name=plain(lesion.name)), caption)


# ---------------------------------------------------------------------------------------------------- sentences


def two_figures(value: float, threshold: float, words: Words) -> tuple[str, str]:
    """Value and threshold in percent with the fewest decimals that show which is larger.

    >>> two_figures(0.71, 0.3, Words("en")), two_figures(0.2991, 0.3, Words("en"))
    (('71\u00a0%', '30\u00a0%'), ('29.9\u00a0%', '30.0\u00a0%'))
    """
    for digits in (0, 1, 2):
        texts = words.probability(value, digits), words.probability(threshold, digits)
        if texts[0] != texts[1] or value == threshold:
            return texts
    return texts


@dataclass(frozen=True)
class Summary:
    """The three questions of a clinician, each answered in a sentence or two.

    Attributes:
        suspected: the most likely diagnosis, and the most likely malignant one.
        sure: what is not ruled out, and how much of the answer comes from the photo.
        step: what to do next.
    """

    suspected: str
    sure: str
    step: str


def summary(lesion: Lesion, model: ModelEvidence, words: Words) -> Summary:
    """The three answers of a card."""
    if model.knows_nothing:
        return Summary(words("say.untrained"), words("state.untrained"), words("next.untrained"))
    first = _likely(lesion, model, words, 1)
    worst = worst_malignant(lesion, model)
    suspected = [first]
    if worst is not None and worst[0] != cell_text(lesion.row["top1"]):
        name = words.diagnosis(model.label(worst[0]))
        suspected.append(words("say.worst", name=name, share=words.probability(worst[1])))
    step = words(f"next.{lesion.state}", signs=words.listed([words.attribute(name) for name in lesion.signs]))
    return Summary(words("semicolon").join(suspected), how_sure(lesion, model, words), step)


def _likely(lesion: Lesion, model: ModelEvidence, words: Words, place: int) -> str:
    name = words.diagnosis(model.label(cell_text(lesion.row[f"top{place}"])))
    return words("candidate.alt", name=name, value=words.probability(number(lesion.row[f"top{place}_p"])))


def worst_malignant(lesion: Lesion, model: ModelEvidence) -> tuple[str, float] | None:
    """The most likely malignant class and its probability; None of a model that knows none."""
    shares = {
        name.removeprefix(PROBABILITY): number(lesion.row[name]) for name in probability_columns(list(lesion.row))
    }
    malignant = model.classes.malignant if model.classes else ()
    known = {code: p for code, p in shares.items() if code in malignant and not math.isnan(p)}
    return max(known.items(), key=lambda item: item[1]) if known else None


def how_sure(lesion: Lesion, model: ModelEvidence, words: Words) -> str:
    """The prediction set in words."""
    n = len(probability_columns(list(lesion.row)))
    if lesion.rules_nothing_out:
        return words("say.every_class", n=n)
    inside = [code for code in cell_text(lesion.row.get("prediction_set")).split(",") if code]
    if not inside:
        return words("say.no_set")
    names = words.listed([words.diagnosis(model.label(code)) for code in inside])
    return words("say.set_of_one" if len(inside) == 1 else "say.set", names=names, n=n - len(inside))


def plain_words(lesion: Lesion, model: ModelEvidence, words: Words) -> list[str]:
    """The statements about a lesion, beside its :func:`summary`."""
    row = lesion.row
    if model.knows_nothing:
        return [words("say.not_safe")]
    sentences = _unsure(row, words)
    if math.isnan(lesion.malignancy):
        return sentences
    value, threshold = two_figures(lesion.malignancy, lesion.threshold, words)
    if lesion.alarm:
        key = "say.at" if lesion.malignancy == lesion.threshold else "say.above"
        if lesion.malignancy >= lesion.threshold:
            sentences.append(words(key, value=value, threshold=threshold))
        else:
            sentences.append(words("say.by_class", value=value, threshold=threshold))
        if row.get("veto"):
            sentences.append(words("say.veto"))
        return [*sentences, *_stated_for(lesion, words)]
    sentences.append(words("say.below", value=value, threshold=threshold))
    return [*sentences, *_stated_for(lesion, words), words("say.not_safe")]


def _unsure(row: Mapping[str, Any], words: Words) -> list[str]:
    """Of a model that knows it: its uncertainty as a share of a guess's, and what of it its passes disagree about."""
    entropy, between = (number(row.get(f"uncertainty_{name}")) for name in ("entropy", "mutual_information"))
    classes = len(probability_columns(list(row)))
    if math.isnan(entropy) or math.isnan(between) or classes < 2:
        return []
    value = min(entropy / math.log(classes), 1.0)
    return [
        words(
            "say.unsure",
            value=words.probability(value),
            share=words.share(min(between / entropy, 1.0) if entropy else 0.0),
        )
    ]


def _stated_for(lesion: Lesion, words: Words) -> list[str]:
    """For which mix malignancy is stated, and what it is at the cohort's prevalence, where these are known."""
    holds = number(lesion.row.get("effective_prevalence"))
    there = number(lesion.row.get("malignancy_at_prevalence"))
    sentences = [] if math.isnan(holds) else [words("say.mix", share=words.share(holds))]
    return (
        sentences if math.isnan(there) else [*sentences, words("say.at_prevalence", value=words.probability(there, 1))]
    )


@dataclass(frozen=True)
class Criterion:
    """The answer to a further task, such as a criterion of the seven-point checklist.

    Attributes:
        name: of the task, in words.
        answer: its most probable class, in words, with the points it carries.
        share: how probable.
        bar: its bar as SVG.
    """

    name: str
    answer: str
    share: str
    bar: Markup


def criteria(lesion: Lesion, words: Words, unlearnt: Collection[str] = ()) -> list[Criterion]:
    """The answers to the model's further tasks, but for those that it has not learnt."""
    rows = []
    for column in lesion.row:
        task = column.removeprefix("top1__")
        code = cell_text(lesion.row.get(column))
        if task == column or not code or task in unlearnt:
            continue
        p, answer = number(lesion.row.get(f"top1_p__{task}")), words.code("answer", code)
        carries, points = POINTS.get(task, ("", 0))
        name, share = words.attribute(task), words.probability(p)
        alt = words("candidate.alt", name=words("pair", name=name, value=answer), value=share)
        worth = words("criteria.points", answer=answer, points=points) if code == carries else answer
        rows.append(Criterion(name, worth, share, svg.small_bar(p, alt, alarm=code == carries)))
    return rows


def checklist_score(lesion: Lesion, words: Words) -> str:
    """What the criteria add up to, in a sentence; empty for a model that does not answer all seven."""
    score = number(lesion.row.get(seven_point.SCORE))
    if math.isnan(score):
        return ""
    sensitive, usual = (words.share(number(lesion.row.get(seven_point.CHANCES[rule]))) for rule in seven_point.RULES)
    most = sum(points for _, points in POINTS.values())
    return words("criteria.score", score=f"{score:.0f}", most=most, p_from_3=usual, p_from_1=sensitive)


def reasons(lesion: Lesion, model: ModelEvidence, words: Words) -> list[str]:
    """Why it is referred or should be looked at."""
    if model.knows_nothing:
        return [words.code("refer", UNTRAINED)]
    first = [words("every_class")] if lesion.rules_nothing_out else []
    codes = [code for code in cell_text(lesion.row.get("refer_reason")).split(",") if code]
    reported = [words("reported", sign=words.attribute(name)) for name in lesion.signs]
    return [*first, *(words.code("refer", code) for code in codes), *reported]


def cautions(lesion: Lesion, cohort: CohortEvidence, model: ModelEvidence, words: Words) -> list[str]:
    """Cautions that lower the trust in the card."""
    sentences = []
    if cohort.is_phantom:
        sentences.append(words("caution.phantom"))
    if cohort.allowed_leakage:
        sentences.append(words("caution.leakage"))
    if model.measures:
        sentences += _about_the_outline(lesion, words)
    share = photo_share(lesion)
    if share < LITTLE:
        sentences.append(words("caution.little_photo", share=words.probability(share)))
    spread = number(lesion.row.get("fold_sd"))
    if spread > DISAGREEMENT:
        sentences.append(words("caution.folds", sd=f"{100 * spread:.0f}"))
    return sentences


def _about_the_outline(lesion: Lesion, words: Words) -> list[str]:
    """Of a model that reads it: whether it was found, who drew it, and how well it fits where a person drew one too."""
    sentences = []
    iou = number(lesion.mask.get("iou"))
    segmenters = cell_text(lesion.mask.get("segmenter")).split(",")
    if lesion.mask_failed:
        sentences.append(words("caution.mask_failed"))
    elif iou < FITS and "truth" not in segmenters:
        sentences.append(words("caution.overlap", iou=words.share(iou)))
    elif math.isnan(iou) and "otsu" in segmenters:
        sentences.append(words("caution.otsu"))
    if "features_missing" in cell_text(lesion.row.get("refer_reason")).split(","):
        sentences.append(words("caution.features_missing"))
    inside = number(lesion.explanation.get("inside_mask"))
    if inside < OUTSIDE and not lesion.mask_failed:
        sentences.append(words("caution.outside", inside=words.share(inside)))
    return sentences


def recorded_and_missing(lesion: Lesion, model: ModelEvidence, words: Words) -> tuple[list[tuple[str, str]], list[str]]:
    """Attributes with the values the model used, and those it lacked."""
    lacking = [name for name in cell_text(lesion.row.get("missing_attributes")).split(",") if name]
    attributes = model.attributes or (_FIRST if model.artifact is None else ())
    ordered = [*(n for n in _FIRST if n in attributes), *(n for n in attributes if n not in _FIRST)]
    recorded = [
        (words.attribute(name), words.value(name, lesion.case[name]))
        for name in ordered
        if name not in lacking and lesion.case.get(name) is not None
    ]
    return recorded, [words.attribute(name) for name in lacking]


@dataclass(frozen=True)
class Influence:
    """One contribution to the prediction.

    Attributes:
        name: attribute with its value, in words.
        effect: for or against, and how strongly.
        bar: its bar as SVG.
    """

    name: str
    effect: str
    bar: Markup


def explained(lesion: Lesion, model: ModelEvidence, words: Words) -> str:
    """The target of the influences: malignancy, or a diagnosis."""
    target = cell_text(lesion.explanation.get("target")) or "malignancy"
    return words("target.malignancy") if target == "malignancy" else words.diagnosis(model.label(target))


def is_known(attribute: str, value: object) -> bool:
    """Whether an attribute says anything: it is neither empty nor a way to write that it is not known."""
    if attribute == "image" or is_radiomic(attribute):
        return True
    text = cell_text(value).lower()
    return bool(text) and text != "nan" and text not in _NOT_KNOWN


def influences(lesion: Lesion, words: Words, *, limit: int = 6) -> list[Influence]:
    """The strongest influences; features with the same text are summed and listed once, unknown ones left out."""
    sums: dict[str, float] = {}
    for entry in attributions(lesion.explanation, limit=10_000):
        attribute = str(entry["attribute"])
        if not is_known(attribute, entry.get("value")):
            continue
        name = words.attribute(attribute)
        if not is_radiomic(attribute) and attribute != "image":
            name = words("pair", name=name, value=words.value(attribute, entry.get("value")))
        sums[name] = sums.get(name, 0.0) + float(entry["contribution"])
    top = sorted(sums.items(), key=lambda item: (-abs(item[1]), item[0]))[:limit]
    strong, clear = _STRENGTHS.get(cell_text(lesion.explanation.get("unit")), _STRENGTHS["log_odds"])
    rows = []
    for name, value in top:
        strength = "strong" if abs(value) >= strong else "medium" if abs(value) >= clear else "weak"
        key = "influences.for" if value >= 0 else "influences.against"
        effect = words(key, strength=words(f"strength.{strength}"))
        rows.append(
            Influence(
                plain(name),
                effect,
                svg.signed_bar(value, abs(top[0][1]), words("pair", name=plain(name), value=effect)),
            )
        )
    return rows


def unknown_influences(lesion: Lesion, words: Words) -> list[str]:
    """Attributes that are not known and still moved the answer: at least clearly, strongest first."""
    _, clear = _STRENGTHS.get(cell_text(lesion.explanation.get("unit")), _STRENGTHS["log_odds"])
    return [
        words.attribute(str(entry["attribute"]))
        for entry in attributions(lesion.explanation, limit=10_000)
        if not is_known(str(entry["attribute"]), entry.get("value")) and abs(float(entry["contribution"])) >= clear
    ]


def of_patient(lesion: Lesion, words: Words, predicted: str) -> list[tuple[str, str]]:
    """What stands below the name on a card: age, sex, site, size and date; what is not known is said to be."""
    rows = [(words.attribute(name), words.value(name, lesion.case.get(name))) for name in _ON_PAPER]
    size = number(lesion.case.get("diameter_1_mm"))
    scale = words("no_scale") if math.isnan(size) else words("millimetres", value=f"{size:g}")
    return [*rows, (words("size"), scale), (words("assessed_on"), predicted)]


@dataclass(frozen=True)
class Boxes:
    """A row of boxes to tick on paper."""

    name: str
    boxes: Sequence[str]


def paper_boxes(words: Words) -> list[Boxes]:
    """The scores of dermoscopy, empty: a physician's own, beside the program's."""
    seven = [
        words("box.seven_item", name=words.attribute(task), answer=words.code("answer", answer), points=points)
        for task, (answer, points) in POINTS.items()
    ]
    abcd = [words(f"box.abcd.{letter}") for letter in "abcd"]
    three = [words(f"box.three.{name}") for name in ("asymmetry", "network", "blue_white")]
    action = [words(f"box.action.{name}") for name in ("none", "follow_up", "refer", "biopsy", "excision")]
    named = (("abcd", abcd), ("three", three), ("seven", seven), ("action", action))
    return [Boxes(words(f"box.{name}"), boxes) for name, boxes in named]


def bar_of_lesion(lesion: Lesion, words: Words) -> Markup:
    """Malignancy against the threshold, drawn."""
    value, threshold = two_figures(lesion.malignancy, lesion.threshold, words)
    return svg.malignancy_bar(
        lesion.malignancy,
        lesion.threshold,
        words("bar.alt", value=value, threshold=threshold),
        words("bar.threshold", threshold=threshold),
        alarm=lesion.alarm,
    )
