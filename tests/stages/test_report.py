"""The report stage: pages that open offline, answers first, nothing unsafe, nothing left out."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import written_artifacts
from markupsafe import Markup
from reason_codes import reason_codes
from written_artifacts import run_stage, write

from skinkit.artifacts.artifact import open_artifact
from skinkit.audit import shortcuts
from skinkit.data import phantoms
from skinkit.errors import ConfigError, InputError
from skinkit.evaluation import metric_table
from skinkit.figures import curves
from skinkit.images.encode import jpeg_bytes, png_bytes
from skinkit.images.identity import slug
from skinkit.reporting import cards, svg, words
from skinkit.reporting.facts import FactSheet
from skinkit.reporting.html import Block, compose
from skinkit.reporting.standards import STANDARDS, load_standard
from skinkit.stats import metrics
from skinkit.stats.notes import INSUFFICIENT, NOTES, TOO_FEW_PATIENTS
from skinkit.taxonomy import class_set
from skinkit.workspace import Ref, Workspace, load_workspace

SCRIPT = "<script>alert(1)</script>"
CLASSES = class_set("pad6")
PAD6 = {diagnosis: code for diagnosis, code in CLASSES.members.items() if diagnosis != "benign_keratosis"}
MODEL = "trees"


@dataclass
class Cohort:
    """A cohort to be written: how many lesions, and what is odd about it."""

    name: str
    role: str
    n: int
    segmenter: str = "otsu"
    labelled: bool = True
    phantom: bool = False
    odd: list[dict[str, Any]] = field(default_factory=list)


def write_cohort(workspace: Workspace, cohort: Cohort, *, seed: int, side_px: int = 1) -> pd.DataFrame:
    """Photos, cases, masks, fused features and predictions of drawn lesions; the frame of its predictions."""
    rng = np.random.default_rng(seed)
    hospital = phantoms.Hospital(cohort.name[:1].upper())
    root = workspace.cohort(cohort.name).root
    cases, masks, fused, predictions, files = [], [], [], [], {}
    for n in range(cohort.n):
        diagnosis = list(PAD6)[n % len(PAD6)]
        rgb, mask = phantoms.draw(rng, diagnosis, phantoms._SKIN[n % 4], hospital)
        rgb, mask = rgb.repeat(side_px, 0).repeat(side_px, 1), mask.repeat(side_px, 0).repeat(side_px, 1)
        image = f"{cohort.name}-{n:03d}"
        (root / f"{image}.jpg").write_bytes(jpeg_bytes(rgb, 92))
        file = f"png/{slug(image)}.png"
        files[file] = png_bytes(mask)
        failed = n == 3
        subject = {
            "image_id": image,
            "case_id": image,
            "patient_id": f"P{n // 2:03d}",
            "lesion_id": f"P{n // 2:03d}-L{n}",
            "group_id": f"{cohort.name}:P{n // 2:03d}",
            "diagnosis": diagnosis if cohort.labelled else None,
            "age_years": float(rng.integers(20, 90)) if n % 7 else None,
            "sex": ["female", "male", None][n % 3],
            "site": ["head/neck", "torso", "upper extremity"][n % 3],
            "region": ["FACE", "BACK", "FOREARM"][n % 3],
            "bleed": ["True", "False", "UNK"][n % 3],
            "fitzpatrick": [2.0, 3.0, None][n % 3],
            "modality": "clinical",
            "confirmed_by": "histopathology" if n % 2 else "clinical",
            "image_path": f"{image}.jpg",
        }
        cases.append({**subject, "flags": "fewer_bits,sex_unmapped" if n < 2 else None})
        masks.append(
            {
                "image_id": image,
                "segmenter": cohort.segmenter,
                "mask_file": file,
                "mask_failed": failed,
                "iou": 0.1 * (n + 4) if n < 4 else None,
                "dice": 0.1 * (n + 5) if n < 4 else None,
                "flags": "mask_inverted" if n == 2 else None,
                "status": "ok",
            }
        )
        bent = PAD6[diagnosis] in CLASSES.malignant
        fused.append(
            {
                **subject,
                "status": "ok",
                "original_firstorder_Mean": float(rgb[mask].mean()),
                "original_firstorder_Median": float(np.median(rgb[mask])),
                "original_shape2D_Sphericity": float(rng.normal(0.8, 0.1)),
                "original_glcm_Contrast": float(rng.normal(3 if bent else 1, 1)),
            }
        )
        p = rng.dirichlet(np.where(np.array(CLASSES.classes) == PAD6[diagnosis], 4.0, 0.7))
        predictions.append(
            {**predicted(p, failed=failed), **{k: subject[k] for k in IDS}, "level": "image", "n_cases": 1}
        )
    written_artifacts.write_cases(workspace, cohort.name, [*cases, *cohort.odd])
    write(workspace, Ref("masks", cohort.name, "otsu"), masks, {"segmenter": cohort.segmenter}, files)
    write(workspace, Ref("features", cohort.name, "otsu"), [{"image_id": c["image_id"], "status": "ok"} for c in cases])
    write(workspace, Ref("fused", cohort.name, "otsu"), fused)
    lesions = [{**row, "level": "lesion", "case_id": row["lesion_id"]} for row in predictions]
    table = pd.DataFrame([*predictions, *lesions])
    info = {"classes": CLASSES.as_dict(), "threshold": 0.3, "model": MODEL, "leakage_allowed": None}
    write(workspace, Ref("predictions", cohort.name, MODEL), table, info)
    write_explanations(workspace, cohort.name, predictions)
    return table[table["level"] == "image"].reset_index(drop=True)


IDS = ("image_id", "case_id", "patient_id", "lesion_id", "group_id")


GUESS = 0.5
"""Below this highest probability a prediction set holds every class."""


def predicted(p: np.ndarray, *, failed: bool = False) -> dict[str, Any]:
    """One row of predictions as predict would decide it."""
    first, second = np.argsort(-p, kind="stable")[:2]
    malignant = np.array([c in CLASSES.malignant for c in CLASSES.classes])
    malignancy = float(p[malignant].sum())
    called = bool(malignant[first] or malignancy >= 0.3)
    reasons = [*(["malignant_call"] if called else []), *(["mask_failed"] if failed else [])]
    return {
        "model": MODEL,
        "model_identity": "abcdef0123456789",
        "top1": CLASSES.classes[first],
        "top1_p": float(p[first]),
        "top2": CLASSES.classes[second],
        "top2_p": float(p[second]),
        "malignancy": malignancy,
        "malignant_set": "pad",
        "effective_prevalence": 0.5,
        "prediction_set": ",".join(CLASSES.classes if p.max() < GUESS else CLASSES.classes[first : first + 1]),
        "threshold": 0.3,
        "call": "malignant" if called else "benign",
        "veto": called and not bool(malignant[first]),
        "entropy": float(-(p * np.log(p)).sum() / np.log(len(p))),
        "refer": bool(reasons),
        "refer_reason": ",".join(reasons) or None,
        "missing_attributes": "age_years" if first == 0 else None,
        "status": "ok",
        **{f"p__diagnosis__{c}": float(v) for c, v in zip(CLASSES.classes, p, strict=True)},
    }


def write_explanations(workspace: Workspace, cohort: str, predictions: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(7)
    rows, files = [], {}
    for row in predictions:
        file = f"heat/{slug(row['image_id'])}.png"
        heat = np.zeros((phantoms.HEIGHT_PX, phantoms.WIDTH_PX), np.uint8)
        heat[60:120, 80:160] = rng.integers(100, 255)
        files[file] = png_bytes(heat)
        weights = [
            {"attribute": "original_shape2D_Sphericity", "value": 0.71, "contribution": -0.62},
            {"attribute": "age_years", "value": 71.0, "contribution": 1.2},
            {"attribute": "bleed", "value": "True", "contribution": 0.45},
            {"attribute": "red_original_glcm_Contrast", "value": 3.1, "contribution": 0.2},
            {"attribute": "sex", "value": None, "contribution": -0.05},
        ]
        rows.append(
            {
                "case_id": row["case_id"],
                "image_id": row["image_id"],
                "target": "malignancy",
                "method": "occlusion_of_mask",
                "heatmap_file": file,
                "inside_mask": 0.35,
                "attributions_json": json.dumps(weights),
                "baseline": -0.3,
                "unit": "log_odds",
                "status": "ok",
            }
        )
    write(workspace, Ref("explanations", cohort, MODEL), rows, {}, files)


def write_metrics(
    workspace: Workspace,
    cohort: str,
    table: pd.DataFrame,
    info: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Metrics of these predictions, truth being what the drawing rule was."""
    cases = pd.read_parquet(workspace.path(Ref("cases", cohort)) / "table.parquet").set_index("case_id")
    truth = np.array([CLASSES.classes.index(PAD6[cases.at[c, "diagnosis"]]) for c in table["case_id"]])
    p = table[[f"p__diagnosis__{c}" for c in CLASSES.classes]].to_numpy(float)
    malignant = np.array([c in CLASSES.malignant for c in CLASSES.classes])
    scored = metric_table.ScoredCases(
        CLASSES.classes,
        truth,
        p,
        table["group_id"].to_numpy(),
        malignant,
        table["malignancy"].to_numpy(float),
        (table["call"] == "malignant").to_numpy(),
        0.3,
        "model",
        dict.fromkeys(CLASSES.classes, (0.2, "validation:youden")),
    )
    rows = [
        {**r, "cohort": cohort, "model": MODEL, "subgroup": "all"} for r in metric_table.measure(scored, bootstrap=200)
    ]
    women = (cases.loc[table["case_id"], "sex"] == "female").to_numpy()
    rows += [
        {**r, "cohort": cohort, "model": MODEL, "subgroup": "sex=female"}
        for r in metric_table.measure(scored.take(women), bootstrap=0)
    ]
    curve = metrics.roc_curve(scored.malignancy, malignant[truth])
    area = metrics.auroc(scored.malignancy, malignant[truth])
    drawings = {
        "figures/roc.svg": curves.roc({"malignant": {**curve, "auroc": area}}, labels={"malignant": "恶性"}),
        "figures/confusion.svg": curves.confusion(
            metric_table.confusion_matrix(truth, p.argmax(1), len(CLASSES.classes)), CLASSES.classes
        ),
    }
    about = {"excluded": {"unlabelled": 2, "no_class:dermatofibroma": 3}, "allow_leakage": None, **(info or {})}
    write(
        workspace,
        Ref("metrics", cohort, MODEL),
        rows,
        about,
        {k: v.encode() for k, v in drawings.items()} | dict(files or {}),
    )


def write_model(workspace: Workspace) -> None:
    card = {
        "model": "lightgbm",
        "name": MODEL,
        "classes": CLASSES.as_dict(),
        "threshold": 0.3,
        "attributes": "pad45",
        "fused": "otsu",
        "weights": {"name": "resnet50", "sha256": "f" * 64},
        "folds": [{"fold": 0, "temperature": 1.1, "class_thresholds": {}}],
    }
    rows = [{"fold": 0, "n_train": 20, "n_validation": 5, "n_held_out": 5}]
    write(workspace, Ref("models", name=MODEL), rows, {}, {"model.json": json.dumps(card).encode()})


ODD = [
    {"image_id": f"bad {SCRIPT}", "status": "failed", "reason": "image_truncated", "detail": f"cut {SCRIPT}"},
    {"image_id": "twin", "status": "excluded", "reason": "duplicate_content", "detail": "same pixels as another"},
    {"image_id": "late", "status": "pending", "reason": "image_absent", "detail": "no file"},
    {"image_id": "odd", "status": "failed", "reason": "a_new_reason", "detail": "not in the words yet"},
]


def make(folder: Path, cohorts: list[Cohort], *, scored: bool = True, side_px: int = 1) -> Workspace:
    """A workspace whose chain has run."""
    workspace = written_artifacts.make_workspace(
        folder, {c.name: c.role for c in cohorts}, segmenter="otsu", model=MODEL, classes="pad6"
    )
    text = (folder / "skinkit.toml").read_text(encoding="utf-8")
    for cohort in cohorts:
        if cohort.phantom:
            text = text.replace(f'path = "{cohort.name}"', f'path = "{cohort.name}"\nphantom = true')
    (folder / "skinkit.toml").write_text(text, encoding="utf-8")
    workspace = load_workspace(folder)
    write_model(workspace)
    for seed, cohort in enumerate(cohorts):
        table = write_cohort(workspace, cohort, seed=seed, side_px=side_px)
        if scored and cohort.labelled:
            write_metrics(workspace, cohort.name, table)
    return workspace


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A development, an external and an inference cohort."""
    return make(
        tmp_path_factory.mktemp("study"),
        [
            Cohort("pad", "development", 24, odd=ODD),
            Cohort("jinan", "external", 30),
            Cohort("ward", "inference", 8, labelled=False, phantom=True, odd=ODD),
        ],
    )


def report(workspace: Workspace, **given: Any) -> dict[str, str]:
    """File name -> text of the pages."""
    cohorts = given.pop("cohorts", ())
    made, _ = run_stage(workspace, "report", cohorts=cohorts, **given)
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(made[0].path.glob("*.html"))}


RESEARCH, CLINIC = "research", "clinic-ward"


class Tags(HTMLParser):
    """Every tag with its attributes, the text of each, and the style sheets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.styles: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] == "style":
            self.styles.append(data)


@pytest.fixture(scope="module")
def research(study: Workspace) -> str:
    return report(study)["index.html"]


@pytest.fixture(scope="module")
def clinic(study: Workspace) -> str:
    return report(study, audience="clinic")["index.html"]


def visible(text: str) -> str:
    """A page without its tags and pictures."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)))


# ------------------------------------------------------------------------------------------------------- safety


@pytest.mark.parametrize("audience", ["research", "clinic"])
def test_pages_open_offline_under_a_strict_policy(audience: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(audience)
    tags = Tags(page)
    policy = next(a["content"] for tag, a in tags.tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert len(tags.styles) == 1
    digest = base64.b64encode(hashlib.sha256(tags.styles[0].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "url(" not in tags.styles[0]
    assert "@import" not in tags.styles[0]
    for tag, attributes in tags.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base", "foreignobject")
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href", "srcset", "action"):
            target = attributes.get(name) or "#"
            own = ("#", "data:image/jpeg;base64,", "data:image/png;base64,", "index.html", "page-")
            assert target.startswith(own), (tag, target[:80])


@pytest.mark.parametrize("audience", ["research", "clinic"])
def test_what_comes_from_tables_is_escaped(audience: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(audience)
    assert SCRIPT not in page
    assert html.escape(SCRIPT) in page


def test_ids_with_markup_are_escaped_on_cards_too(tmp_path: Path) -> None:
    workspace = written_artifacts.make_workspace(tmp_path, {"ward": "inference"}, model=MODEL)
    write_model(workspace)
    rgb, _ = phantoms.draw(np.random.default_rng(0), "nevus", phantoms._SKIN[0], phantoms.Hospital("W"))
    (tmp_path / "ward" / "a.jpg").write_bytes(jpeg_bytes(rgb))
    ids = {"image_id": SCRIPT, "case_id": SCRIPT, "patient_id": f'"{SCRIPT}', "lesion_id": None, "group_id": "g"}
    written_artifacts.write_cases(workspace, "ward", [{**ids, "image_path": "a.jpg", "site": SCRIPT}])
    row = {**predicted(np.array([0.1, 0.5, 0.1, 0.1, 0.1, 0.1])), **ids, "level": "image", "n_cases": 1}
    write(workspace, Ref("predictions", "ward", MODEL), [{**row, "missing_attributes": SCRIPT}], {})
    page = report(workspace, audience="clinic")["index.html"]
    assert SCRIPT not in page
    assert page.count(html.escape(SCRIPT)) >= 4
    assert 'id="lesion-1"' in page


def test_foreign_figures_are_made_harmless() -> None:
    nasty = """<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/x.dtd">
    <svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt"
      viewBox="0 0 72 36" onload="alert(1)"><style>*{fill:red}</style><script>alert(2)</script>
    <foreignObject><b onclick="x">hi</b></foreignObject><a href="http://evil"><text>linked</text></a>
    <g id="g1" style="fill: #00ff00; stroke: url(http://evil); font: bold 10px 'X'; background: red">
    <use xlink:href="http://evil#a"/><use xlink:href="#g1"/><path d="M0 0" clip-path="url(#c)" fill="url(http://e)"/>
    <image xlink:href="http://evil/a.png"/><image xlink:href="data:image/svg+xml;base64,AAAA"/>
    <image xlink:href="data:image/png;base64,AAAA"/><text>a &lt;script&gt; \u6076\u6027</text></g></svg>"""
    clean = svg.clean(nasty, "p-", label='a "label"')
    tags = Tags(clean)
    assert [tag for tag, _ in tags.tags] == ["svg", "g", "use", "use", "path", "image", "text"]
    assert not any(word in clean for word in ("evil", "alert", "style", "onload", "http", "linked", "svg+xml"))
    group = tags.tags[1][1]
    assert group == {"id": "p-g1", "fill": "#00ff00", "font-size": "10", "font-weight": "bold"}
    assert tags.tags[3][1] == {"href": "#p-g1"}
    assert tags.tags[4][1] == {"d": "M0 0", "clip-path": "url(#p-c)"}
    assert "a &lt;script&gt; 恶性" in clean
    assert tags.tags[0][1]["aria-label"] == 'a "label"'


def test_figures_with_entities_or_without_svg_are_refused() -> None:
    with pytest.raises(svg.UnsafeFigureError, match="entities"):
        svg.clean('<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>', "p-")
    with pytest.raises(svg.UnsafeFigureError, match="html"):
        svg.clean("<html></html>", "p-")
    with pytest.raises(svg.UnsafeFigureError):
        svg.clean("<svg", "p-")


def test_matplotlib_keeps_its_look_without_styles() -> None:
    drawn = curves.confusion([[5, 1], [0, 4]], ["NEV", "MEL"])
    clean = svg.clean(drawn, "p-", translate=words.Words("zh-CN").in_figure)
    fills = {a["fill"] for _, a in Tags(clean).tags if "fill" in a}
    assert set(re.findall(r"fill: (#[0-9a-f]{6})", drawn)) == {fill for fill in fills if fill and fill.startswith("#")}
    assert "程序首选类别" in clean
    assert "most probable class" not in clean


# ------------------------------------------------------------------------------------------------ research report


def test_answers_come_first_and_the_order_holds(research: str) -> None:
    say = words.Words("en")
    keys = ["read_first", "how_good", "for_whom", "how_sure", "warnings", "shortcuts", "drift", "metrics"]
    keys += ["flow", "overlap", "lesions", "radiomic_heatmap", "failures", "provenance"]
    found = [research.index(f">{html.escape(say(key))}</h2>") for key in keys]
    assert found == sorted(found)
    assert research.index(say("research_only")) < found[0]
    assert research.count(say("research_only")) >= 3  # above, below, and on every printed sheet


def test_headline_figures_are_those_of_the_metrics(study: Workspace, research: str) -> None:
    table = pd.read_parquet(study.path(Ref("metrics", "jinan", MODEL)) / "table.parquet")
    row = table[(table["class"] == "malignant") & (table["metric"] == "auroc") & (table["subgroup"] == "all")].iloc[0]
    panel = visible(research[research.index('class="panel"') : research.index('class="rule"')])
    assert panel.index("jinan") < panel.index("pad")  # external cohorts are to be believed first
    assert f"{row['estimate']:.2f}" in panel
    assert f"95 % interval {row['lower']:.2f} to {row['upper']:.2f}" in panel


def test_a_missing_figure_says_why_in_both_languages(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("pad", "development", 24), Cohort("jinan", "external", 30)])
    artifact = open_artifact(workspace.path(Ref("metrics", "jinan", MODEL)))
    table = artifact.table()
    spoilt = ("calibration_slope", "calibration_intercept", "brier", "ece", "log_loss")
    said = dict(zip((*NOTES, INSUFFICIENT), spoilt, strict=True))  # the last stands in tables of older versions alone
    for note, metric in said.items():
        table.loc[table["metric"] == metric, ["estimate", "lower", "upper", "note"]] = [np.nan, np.nan, np.nan, note]
    of_few = "average_precision"
    has_estimate = (table["metric"] == of_few) & table["estimate"].notna()
    table.loc[has_estimate, ["lower", "upper", "note"]] = [np.nan, np.nan, TOO_FEW_PATIENTS]
    write(workspace, Ref("metrics", "jinan", MODEL), table, artifact.info)
    for lang in words.LANGUAGES:
        say, page = words.Words(lang), visible(report(workspace, lang=lang)["index.html"])
        for note, metric in said.items():
            assert say(f"why_missing.{note}") in page
            assert f"{say.code('metric', metric)} {say(f'missing_figure.{note}')}" in page
        line = (say.code("metric", of_few), say.code("rule", "none"), say("interval_of_few"))
        assert re.search(r"{} {} [01]\.\d+ {}".format(*map(re.escape, line)), page)


def test_overlap_with_people_s_outlines_of_few_patients_has_no_interval(research: str) -> None:
    table = research[research.index('id="overlap"') : research.index('id="lesions"')]
    rows = [visible(row).split() for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]]
    assert [row[0] for row in rows] == ["jinan", "jinan", "pad", "pad", "ward", "ward"]
    iou, dice = rows[:2]
    assert iou[1:4] == ["otsu", "IoU", "0.55"]
    assert dice[2:4] == ["Dice", "0.65"]
    assert not any("(" in word for word in iou)  # four patients


def test_every_loss_is_drawn_and_listed_with_its_count(research: str) -> None:
    say, text = words.Words("en"), visible(research)
    for reason in ("image_truncated", "duplicate_content", "image_absent", "a_new_reason"):
        assert say.reason(reason) in text
    assert f"3 not scored: {say.reason('no_class:dermatofibroma')}" in text
    assert f"2 not scored: {say.reason('unlabelled')}" in text
    flow = visible(research[research.index('id="flow"') : research.index('id="lesions"')])
    assert "Photos and table rows found 28" in flow
    assert "Usable photos 24" in flow
    assert "not in the words yet" in text  # the failed case with its detail


def test_leakage_is_the_first_thing_said(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("pad", "development", 12), Cohort("jinan", "external", 12, phantom=True)])
    table = pd.read_parquet(workspace.path(Ref("predictions", "jinan", MODEL)) / "table.parquet")
    table = table[table["level"] == "image"].reset_index(drop=True)
    write_metrics(workspace, "jinan", table, {"allow_leakage": "we know <b>it</b>"})
    page = report(workspace)["index.html"]
    box = page[page.index('class="alarm-box"') :]
    first = visible(box[box.index("<li>") : box.index("</li>")])
    assert "jinan: “we know <b>it</b>”" in first
    assert page.index('class="alarm-box"') < page.index('class="panel"')


def test_warnings_that_fit_and_only_those(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("pad", "development", 12, segmenter="truth")], scored=True)
    say, text = words.Words("en"), visible(report(workspace)["index.html"])
    assert say("warn.no_external") in text
    assert "Otsu" not in text
    assert "phantoms" not in text
    assert say("warn.few_malignant", where="pad 6") in text
    assert say("warn.prevalence", where="pad 50 %") in text
    assert say("warn.skin_types", where="pad 0 of 8") in text


def test_every_flag_is_counted_in_both_reports(research: str, clinic: str) -> None:
    flags = ("2 × fewer than 16 bits in a 16-bit file", "2 × sex not understood", "1 × the skin is outlined instead")
    for page in (research, clinic):
        assert [flag for flag in flags if flag not in page] == []


def test_otsu_and_phantoms_are_loud(research: str) -> None:
    say, box = (
        words.Words("en"),
        visible(research[research.index('class="alarm-box"') : research.index('class="panel"')]),
    )
    where = "; ".join(say("where.otsu", cohort=c, iou="0.55", n=4) for c in ("jinan", "pad", "ward"))
    assert say("warn.otsu", where=where) in box
    assert say("warn.phantoms", where="ward") in box


def test_a_model_no_better_than_chance_is_called_so_everywhere(tmp_path: Path) -> None:
    workspace = make(
        tmp_path, [Cohort("jinan", "external", 24), Cohort("ward", "inference", 4, labelled=False)], scored=False
    )
    table = pd.read_parquet(workspace.path(Ref("predictions", "jinan", MODEL)) / "table.parquet")
    table = table[table["level"] == "image"].reset_index(drop=True)
    names = [name for name in table if name not in IDS]
    table[names] = table[names].iloc[np.random.default_rng(3).permutation(len(table))].to_numpy()
    write_metrics(workspace, "jinan", table.astype({"malignancy": float}))
    for given in ({}, {"audience": "clinic"}):
        page = report(workspace, **given)["index.html"]
        box = visible(page[page.index('class="alarm-box"') : page.index("</div>", page.index('class="alarm-box"'))])
        assert words.Words("en")("warn.chance", where="jinan 0.").removesuffix(".") in box


def test_nothing_changed_nothing_written(study: Workspace) -> None:
    report(study)
    index = study.path(Ref("report", name=RESEARCH)) / "index.html"
    before = index.stat().st_mtime_ns
    _, said = run_stage(study, "report")
    assert "up to date" in said
    assert index.stat().st_mtime_ns == before


def test_other_models_that_were_scored_stand_beside_the_report_s_own(tmp_path: Path) -> None:
    """As they are, without being made anew; those that were asked something else are left out."""
    workspace = make(tmp_path, [Cohort("pad", "development", 24), Cohort("jinan", "external", 30)])
    alone = report(workspace)["index.html"]
    assert 'id="beside"' not in alone
    for name, info in (("other", {}), ("binary", {"malignant_set": "wang"})):
        table = pd.read_parquet(workspace.path(Ref("metrics", "jinan", MODEL)) / "table.parquet")
        share = table["metric"] == "sensitivity"
        table.loc[share, ["estimate", "lower", "upper"]] = 0.4321, 0.3, 0.6
        write(workspace, Ref("metrics", "jinan", name), table, info)
    page = report(workspace)["index.html"]
    rows = re.findall(r"<tr><th.*?</tr>", page[page.index('id="beside"') :].partition("</table>")[0])[1:]
    assert [visible(row).split()[:2] for row in rows] == [["jinan", MODEL], ["jinan", "other"]]
    assert "43 % (30 % – 60 %)" in visible(rows[1])
    assert "43 % (30 % – 60 %)" not in visible(rows[0])
    before = workspace.path(Ref("report", name=RESEARCH)).stat().st_mtime_ns
    report(workspace)
    assert workspace.path(Ref("report", name=RESEARCH)).stat().st_mtime_ns == before
    shutil.rmtree(workspace.path(Ref("metrics", "jinan", "other")))
    assert 'id="beside"' not in report(workspace)["index.html"]


def test_parts_that_are_absent_are_said_to_be(tmp_path: Path) -> None:
    workspace = written_artifacts.make_workspace(tmp_path, {"pad": "development"}, model=MODEL)
    written_artifacts.write_cases(workspace, "pad", [{"diagnosis": "nevus"}, {"diagnosis": "melanoma"}])
    text = visible(report(workspace)["index.html"])
    for command in ("segment", "radiomics", "evaluate", "train"):
        assert words.Words("en")("not_made", command=f"skinkit {command}") in text
    assert "Usable photos 2" in text


def test_a_figure_that_no_manifest_lists_is_not_shown(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("pad", "development", 12)])
    figures = workspace.path(Ref("metrics", "pad", MODEL)) / "figures"
    planted = (figures / "roc.svg").read_text("utf-8").replace("</svg>", "<text>planted</text></svg>")
    (figures / "zz.svg").write_text(planted, encoding="utf-8")
    page = report(workspace)["index.html"]
    assert "planted" not in page
    assert "恶性" in page  # as the figure beside it has
    shutil.rmtree(workspace.path(Ref("report", name=RESEARCH)))
    (figures / "roc.svg").write_text(planted, encoding="utf-8")
    with pytest.raises(InputError, match=r"roc\.svg is not the file"):
        report(workspace)


def test_only_what_exists_is_needed(study: Workspace, tmp_path: Path) -> None:
    from skinkit.stages.report import Config, needs

    kinds = {ref.kind for ref in needs(Config(), Ref("report", name=RESEARCH), study).values()}
    assert kinds == {"cases", "masks", "features", "fused", "predictions", "explanations", "metrics", "models"}
    bare = written_artifacts.make_workspace(tmp_path, {"ward": "inference"}, model=MODEL)
    assert needs(Config(), Ref("report", name=RESEARCH), bare) == {}
    wanted = needs(Config(audience="clinic"), Ref("report", name=CLINIC), bare)
    assert {ref.kind for ref in wanted.values()} == {"cases", "predictions"}


def test_without_any_cases_there_is_nothing_to_report(tmp_path: Path) -> None:
    workspace = written_artifacts.make_workspace(tmp_path, {"pad": "development"})
    with pytest.raises(InputError, match="has been read"):
        report(workspace)


def test_wrong_settings_are_named(study: Workspace) -> None:
    for given, cohorts, name in (
        ({"page_mb": 21.0}, (), ""),
        ({"page_mb": 0.01}, (), ""),
        ({"image_px": 10}, (), ""),
        ({}, ("jinan",), ""),
        ({}, (), CLINIC),
        ({"audience": "clinic"}, (), "mine"),
    ):
        with pytest.raises(ConfigError):
            run_stage(study, "report", cohorts=cohorts, name=name, **given)


def test_instructive_lesions(research: str) -> None:
    part = research[research.index('id="lesions"') : research.index('id="radiomics"')]
    groups = re.findall(r'<h3 class="sub">(.*?)</h3>', part)
    assert groups[:2] == ["jinan: Most suspicious", "jinan: Misclassified"]
    assert part.count('<article class="lesion">') <= 27
    assert "false alarm" in part or "missed: malignant without alarm" in part
    assert len(re.findall(r"<img src=\"data:image/jpeg", part)) >= 2 * 20


def test_same_inputs_same_bytes(study: Workspace) -> None:
    first = report(study)
    shutil.rmtree(study.path(Ref("report", name=RESEARCH)))
    assert report(study) == first


# ------------------------------------------------------------------------------------------------------- clinic


def test_worklist_is_in_order_of_urgency(study: Workspace, clinic: str) -> None:
    table = pd.read_parquet(study.path(Ref("predictions", "ward", MODEL)) / "table.parquet")
    cases = pd.read_parquet(study.path(Ref("cases", "ward")) / "table.parquet").set_index("case_id")
    lesions = table[table["level"] == "lesion"]
    bleeds = (cases.loc[lesions["image_id"], "bleed"] == "True").to_numpy()
    near = (lesions["malignancy"] >= 0.15).to_numpy()
    tier = np.select([lesions["refer"].to_numpy(bool), bleeds, near], [0, 1, 2], 3)
    lesions = lesions.assign(tier=tier).sort_values(["tier", "malignancy"], ascending=[True, False])
    assert len(set(tier)) > 1
    links = re.findall(r'<th scope="row"><a href="#(lesion-\d+)">(.*?)</a>', clinic)
    assert [name for _, name in links] == lesions["case_id"].tolist()
    cards_ = re.findall(r'<article class="card[^"]*" id="(lesion-\d+)">', clinic)
    assert cards_ == [anchor for anchor, _ in links]
    assert len(cards_) == 8


def test_a_card_says_what_a_clinician_asks(study: Workspace, clinic: str) -> None:
    table = pd.read_parquet(study.path(Ref("predictions", "ward", MODEL)) / "table.parquet")
    top = table[table["level"] == "lesion"].sort_values("malignancy", ascending=False).iloc[0]
    card = clinic[clinic.index('id="lesion-1"') : clinic.index('id="lesion-2"')]
    text = visible(card)
    say = words.Words("en")
    first = say.diagnosis(CLASSES.labels[top["top1"]])
    assert f"{first}: {say.probability(top['top1_p'])}".replace("\u00a0", " ") in text
    value, threshold = cards.two_figures(top["malignancy"], 0.3, say)
    assert say("say.above", value=value, threshold=threshold).replace("\u00a0", " ") in text
    assert say("next.alarm") in text
    assert f"Patient {top['patient_id']}" in text
    assert "age: 71 years" in text
    assert "strongly for" in text
    assert "shape: roundness of the outline" in text
    assert "clearly against" in text
    assert say("caution.outside", inside="35 %") in text
    assert "no scale" in text
    assert text.count(say("research_only")) == 1
    assert card.count("<img ") == 3
    assert 'aria-label="Suspicion of malignancy' in card


def test_a_set_of_every_class_stands_first(study: Workspace, clinic: str, research: str) -> None:
    say = words.Words("en")
    table = pd.read_parquet(study.path(Ref("predictions", "ward", MODEL)) / "table.parquet")
    ranked = table[table["level"] == "lesion"].sort_values("malignancy", ascending=False)
    guessed = (ranked["top1_p"] < GUESS).tolist()
    assert 0 < sum(guessed) < len(guessed)
    first = say("say.every_class", n=len(CLASSES.classes))
    for n, guess in enumerate(guessed, 1):
        card = clinic[clinic.index('<article class="card', clinic.index(f'id="lesion-{n}"') - 60) :]
        answers = [visible(part) for part in re.findall(r"<dd>(.*?)</dd>", card, re.DOTALL)[:3]]
        assert (answers[1].strip() == first) == guess
        assert (say("say.set_of_one", names="", n=5).partition(";")[2].strip() in answers[1]) != guess
        stated = say("say.mix", share=say.share(0.5)).replace("\u00a0", " ")
        assert stated in visible(card[card.index('<section class="words">') :]).replace("\u00a0", " ")
    read_first = visible(research[research.index('<div class="alarm-box"') :])
    assert read_first.strip().removeprefix(say("read_first")).strip().startswith("The model rules nothing out")
    images = table[table["level"] == "image"]
    assert f"ward {(images['top1_p'] < GUESS).sum()} of {len(images)}" in read_first


def test_no_alarm_is_no_all_clear(clinic: str) -> None:
    last = visible(clinic[clinic.index('id="lesion-8"') :])
    assert "below the alarm threshold 30 %" in last
    assert "No alarm does not rule out cancer." in last
    assert "photos of malignant lesions missed" in last
    assert not re.search(r"of 100 |per 100", last)


def test_photos_without_assessment_are_not_forgotten(clinic: str) -> None:
    head = visible(clinic[: clinic.index('id="worklist"')])
    say = words.Words("en")
    assert say("clinic.not_assessed_line", n=4) in head
    assert say.reason("image_truncated") in head
    assert f"1 × {say.reason('image_absent')} (late)" in head


def test_many_absent_photos_do_not_drown_the_failed_ones(tmp_path: Path) -> None:
    absent = [{"image_id": f"late-{n}", "status": "pending", "reason": "image_absent"} for n in range(40)]
    workspace = make(tmp_path, [Cohort("ward", "inference", 2, labelled=False, odd=[*absent, ODD[0]])])
    page = report(workspace, audience="clinic")["index.html"]
    box = visible(page[page.index('class="caution-box"') : page.index('id="worklist"')])
    say = words.Words("en")
    assert say("clinic.not_assessed_line", n=41) in box
    failed, waiting = (say.reason(code) for code in ("image_truncated", "image_absent"))
    assert box.index(f"1 × {failed} (bad") < box.index(f"40 × {waiting} (late-0")
    assert "and 28 more" in box


def test_ids_can_be_left_out(study: Workspace) -> None:
    page = report(study, audience="clinic", show_ids=False)["index.html"]
    text = visible(page)
    assert "Lesion 1" in text
    assert not re.search(r"P00\d|ward-00\d|twin", text)
    page = report(study, show_ids=False)["index.html"]
    assert not re.search(r"(pad|jinan|ward)-0\d\d", visible(page))


def test_patient_ids_stand_on_cards_alone(study: Workspace, tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("ward", "inference", 4, labelled=False)])
    table = pd.read_parquet(workspace.path(Ref("predictions", "ward", MODEL)) / "table.parquet")
    table["patient_id"] = "SECRET"
    info = {"classes": CLASSES.as_dict(), "threshold": 0.3, "model": MODEL}
    write(workspace, Ref("predictions", "ward", MODEL), table, info)
    page = report(workspace, audience="clinic")["index.html"]
    first_card = page.index('<article class="card')
    assert "SECRET" not in page[:first_card]
    assert page[first_card:].count("SECRET") == 2 * 4  # on a card, and on its back


def test_a_photo_that_is_gone_costs_its_pictures_alone(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("ward", "inference", 4, labelled=False)])
    (tmp_path / "ward" / "ward-000.jpg").unlink()
    (tmp_path / "ward" / "ward-001.jpg").write_bytes(b"no picture")
    page = report(workspace, audience="clinic")["index.html"]
    assert page.count('<article class="card') == 4
    say = words.Words("en")
    for code in ("image_missing", "image_unreadable"):
        assert say("no_photo", reason=say.reason(code)) in page


def test_photos_of_one_lesion_share_a_card(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("ward", "inference", 3, labelled=False)])
    path = workspace.path(Ref("predictions", "ward", MODEL))
    table = pd.read_parquet(path / "table.parquet")
    images = table[table["level"] == "image"].assign(lesion_id=["L1", "L1", None])
    both = images.iloc[[0]].assign(level="lesion", case_id="L1", n_cases=2)
    write(workspace, Ref("predictions", "ward", MODEL), pd.concat([images, both]), {"classes": CLASSES.as_dict()})
    page = report(workspace, audience="clinic")["index.html"]
    assert page.count('<article class="card') == 2
    assert "Mean over 2 photos of this lesion; one is shown." in page


def test_clinic_defaults_to_inference_cohorts_else_external(study: Workspace, tmp_path: Path) -> None:
    made, _ = run_stage(study, "report", audience="clinic")
    assert [a.path.name for a in made] == ["clinic-ward"]
    made, _ = run_stage(study, "report", audience="clinic", cohorts=["jinan"])
    assert [a.path.name for a in made] == ["clinic-jinan"]
    other = make(tmp_path, [Cohort("pad", "development", 6), Cohort("jinan", "external", 6)])
    made, _ = run_stage(other, "report", audience="clinic")
    assert [a.path.name for a in made] == ["clinic-jinan"]


# ------------------------------------------------------------------------------------------------ size and pages


def test_no_page_is_larger_than_the_limit_and_links_find_their_page(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("ward", "inference", 30, labelled=False)], side_px=3)
    pages = report(workspace, audience="clinic", page_mb=0.4, max_lesions=0)
    assert len(pages) > 2
    assert {len(text.encode()) <= 400_000 for text in pages.values()} == {True}
    rows = re.findall(r'<a href="([^"]*)#(lesion-\d+)">', "".join(pages.values()))
    assert len(rows) == 30
    for file, anchor in rows:
        assert f'id="{anchor}"' in pages[file or "index.html"]
    for text in pages.values():
        assert words.Words("en")("research_only") in text
        for target in re.findall(r'href="(page-\d+\.html|index\.html)', text):
            assert target in pages
    made, _ = run_stage(workspace, "report", audience="clinic", page_mb=0.4, max_lesions=0)
    assert dict(made[0].table()[["page", "bytes"]].to_numpy()) == {k: len(v.encode()) for k, v in pages.items()}


def test_fewer_cards_are_said_to_be_fewer(study: Workspace) -> None:
    page = report(study, audience="clinic", max_lesions=3)["index.html"]
    assert page.count('<article class="card') == 3
    assert "Cards follow for the first 3 of 8 lesions" in page
    assert page.count('<th scope="row">ward') + page.count('<th scope="row">P00') == 5  # rows without a link


def test_a_block_larger_than_a_page_is_replaced() -> None:
    say = words.Words("en")
    blocks = [
        Block(Markup("<p id='a'>small</p>"), "a", "A"),
        Block(Markup("<p>" + "x" * 300_000 + "</p>"), instead=Markup("<p>elsewhere</p>")),
        *(Block(Markup("<p>" + "y" * 90_000 + "</p>")) for _ in range(5)),
        Block(Markup('<p id="z"><a href="#a">back</a></p>'), "z", "Z"),
    ]
    pages = compose(blocks, title="T", words=say, limit_bytes=250_000, kind="research")
    assert len(pages) == 3
    assert all(len(page.data) <= 250_000 for page in pages)
    assert b"elsewhere" in pages[0].data
    assert b'href="page-3.html#z"' in pages[0].data  # from the contents
    assert b'href="index.html#a"' in pages[2].data


# -------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize("audience", ["research", "clinic"])
def test_chinese_pages_speak_chinese(study: Workspace, audience: str) -> None:
    page = report(study, audience=audience, lang="zh-CN")["index.html"]
    text = visible(page)
    assert '<html lang="zh-CN">' in page
    assert "本软件仅供研究使用" in text
    assert "黑色素瘤" in text
    for word in ("melanoma", "malignan", "dermatolog", "sensitivity", "alarm", "threshold", "Worklist", "lesions"):
        assert word not in re.sub(r"--max-lesions|max_lesions", "", text), word


def test_chinese_figures_too(study: Workspace) -> None:
    page = report(study, lang="zh-CN")["index.html"]
    labels = re.findall(r"<text[^>]*>(.*?)</text>", page)
    assert "灵敏度" in labels
    assert "程序首选类别" in labels
    assert any(label.startswith("恶性  0.") for label in labels)
    assert "30 处病变，相似者相邻" in labels


def test_every_diagnosis_attribute_and_reason_has_words() -> None:
    from skinkit.stats.encoders import ENCODERS
    from skinkit.taxonomy import _LABELS, DIAGNOSES, REGION_SITES, SITES

    chinese = words.Words("zh-CN")
    told = [chinese.diagnosis(label) for label in [*DIAGNOSES.values(), *_LABELS.values(), *DIAGNOSES]]
    told += [chinese.attribute(a.name) for encoder in ENCODERS.values() for a in encoder]
    told += [chinese.value("site", value) for value in [*SITES, *REGION_SITES, "female", "male", "True", "UNK"]]
    told += [chinese.reason(code) for code in reason_codes()]
    assert [text for text in told if not re.search(r"[\u4e00-\u9fff]", text)] == []


def test_every_radiomic_feature_has_words() -> None:
    from skinkit.radiomics.names import FEATURE_NAMES

    for lang in words.LANGUAGES:
        say = words.Words(lang)
        told = {name: say.attribute(name) for name in FEATURE_NAMES}
        assert not [name for name, text in told.items() if "original" in text or "_" in text]
        assert say("stem.other") not in " ".join(told.values())
    assert words.Words("en").attribute("red_original_firstorder_Mean") == "brightness: its average in red light"


def test_numbers_are_never_more_certain_than_they_are() -> None:
    say = words.Words("en")
    assert [say.share(p) for p in (0.0, 0.004, 0.62, 0.996, 1.0)] == [
        "0\u00a0%",
        "under 1\u00a0%",
        "62\u00a0%",
        "over 99\u00a0%",
        "100\u00a0%",
    ]
    assert [say.probability(p) for p in (0.0, 0.62, 0.996, 1.0)] == [
        "under 1\u00a0%",
        "62\u00a0%",
        "over 99\u00a0%",
        "over 99\u00a0%",
    ]
    assert cards.two_figures(0.71, 0.3, say) == ("71\u00a0%", "30\u00a0%")
    assert cards.two_figures(0.2991, 0.3, say) == ("29.9\u00a0%", "30.0\u00a0%")


def test_hidden_characters_do_not_reach_a_page() -> None:
    assert words.plain("a\u202eb\u200bc\x00d") == "a b c d"


def test_flow_text_is_wrapped_to_its_box() -> None:
    lines = svg.wrapped("the photo is not there and nobody knows why it should be", 120)
    assert len(lines) > 1
    assert all(svg.text_width(line) <= 120 for line in lines)
    assert "".join(svg.wrapped("照片文件不完整" * 5, 120)) == "照片文件不完整" * 5
    assert all(svg.text_width(line) <= 120 for line in svg.wrapped("照片文件不完整" * 5, 120))


def test_the_command_knows_for(study: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    from skinkit.cli import main

    assert main(["report", "--for", "clinic", "-w", str(study.root), "--no-upstream", "--quiet"]) == 0
    assert capsys.readouterr().out.strip().endswith("report/clinic-ward/index.html")


# -------------------------------------------------------------------------------------------------------- trust


def planted_audit() -> bytes:
    """An audit that found two strong cues that say the same, and a confirmation that tells all."""
    rng = np.random.default_rng(0)
    malignant = rng.random(300) < 0.5
    known = malignant | (rng.random(300) < 0.3)
    table = pd.DataFrame(
        {
            "sex": np.where(known, "male", None).tolist(),
            "fitzpatrick": np.where(known, 2.0, np.nan),
            "itch": np.where(rng.random(300) < 0.5, "True", None).tolist(),
            "confirmed_by": np.where(malignant, "histopathology", "clinical"),
        }
    )
    cluster = np.arange(300).astype(str)
    rows = shortcuts.audit(shortcuts.cues_of(table), malignant, cluster, shortcuts.Setting("pad"))
    return json.dumps(shortcuts.as_dict(rows, "pad")).encode()


GAP = {
    "subgroup": "sex=female", "metric": "sensitivity", "decision_rule": "veto", "estimate": 0.61, "estimate_rest": 0.92,
    "gap": -0.31,
}  # fmt: skip


def test_the_gap_of_these_tests_is_one_that_evaluate_writes() -> None:
    from skinkit.evaluation.subgroups import gaps_table

    assert set(GAP) <= set(gaps_table({}).columns)


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study with planted shortcuts, a gap, a third access and a primary endpoint."""
    cohorts = [Cohort("pad", "development", 30), Cohort("jinan", "external", 30)]
    workspace = make(tmp_path_factory.mktemp("doubtful"), cohorts, scored=False)
    primary = {
        "endpoint": "malignant sensitivity @ veto", "class": "malignant", "average": "none", "decision_rule": "veto",
        "metric": "sensitivity", "estimate": 0.8, "lower": 0.7, "upper": 0.9, "n": 30, "n_positive": 15,
        "n_clusters": 15, "declared": "after", "declared_on": "2025-03-02T10:00:00",
        "first_look": "2025-02-01T10:00:00",
    }  # fmt: skip
    info = {
        "look": {"number": 3}, "external": {"questioned": True}, "gaps": [GAP], "gaps_tested": 12, "primary": primary,
        "leakage": {"cases": 0, "counts": {"near_identical": 2}, "compared": ["patient"]},
        "relabelled": {"n": 4, "of": 90, "cases": []},
    }  # fmt: skip
    for cohort in cohorts:
        table = pd.read_parquet(workspace.path(Ref("predictions", cohort.name, MODEL)) / "table.parquet")
        images = table[table["level"] == "image"].reset_index(drop=True)
        cases = pd.read_parquet(workspace.path(Ref("cases", cohort.name)) / "table.parquet").set_index("case_id")
        scored = images.assign(**{"class": [PAD6[cases.at[c, "diagnosis"]] for c in images["case_id"]]})
        stream = io.BytesIO()
        scored.to_parquet(stream)
        files = {"shortcuts.json": planted_audit(), "scored.parquet": stream.getvalue()}
        write_metrics(workspace, cohort.name, images, info, files)
    return workspace


def test_warnings_stand_on_the_first_page(doubtful: Workspace) -> None:
    page = report(doubtful)["index.html"]
    first = visible(page[: page.index('id="shortcuts"')])
    say = words.Words("en")
    loud = first[: first.index(say("how_good"))]
    assert "recorded or not: sex (AUROC 0.8" in loud
    assert "skin type (Fitzpatrick) (AUROC" not in loud  # it says the same of every case
    assert say("warn.confirmation", where="jinan how the diagnosis was confirmed").removesuffix(".") in first
    assert say("gap", subgroup="sex: female", metric="sensitivity", estimate="0.61", rest="0.92") in first
    assert say("test_access", n=3) in first
    assert say("where.test_access", cohort="jinan", n=3) in first
    assert say("warn.near", where="").removesuffix(".") in first
    assert say("warn.relabelled", where="jinan 4; pad 4") in loud
    assert say("warn.external", where="jinan; pad") in loud
    after = say("primary.after", on="2025-03-02", first="2025-02-01")
    said = f"{after}: sensitivity (alarm: malignant diagnosis or threshold): 0.80 (0.70 – 0.90)"
    assert said in first
    rest = visible(page[page.index('id="shortcuts"') :])
    assert say("cue.alike", cue="recorded or not: sex", n=2) in rest
    assert say("verdict.strong") in rest
    assert re.search(r"Malignant means the set\s+pad\s*\.", rest)
    assert '<span class="set-name">pad</span>' in page
    assert say("drift") in rest
    assert say("drift.adjusted") in rest
    drift = json.loads((doubtful.path(Ref("report", name="research")) / "drift.json").read_text(encoding="utf-8"))
    assert {row["metric"] for row in drift["jinan"]["drop"]} == {"auroc", "sensitivity", "specificity"}


def test_trust_is_said_in_chinese_too(doubtful: Workspace) -> None:
    text = visible(report(doubtful, lang="zh-CN")["index.html"])
    assert "主要终点，并非事先声明" in text
    assert "强捷径" in text
    assert "从内部到外部" in text
    assert "第 3 次查看这批病例" in text


@pytest.mark.parametrize("name", STANDARDS)
def test_checklists_tell_what_is_known_and_what_a_person_writes(doubtful: Workspace, name: str) -> None:
    page = report(doubtful, standard=name)["index.html"]
    folder = doubtful.path(Ref("report", name=f"standard-{name}"))
    found = json.loads((folder / "checklist.json").read_text(encoding="utf-8"))
    assert len(found["items"]) == {"claim": 44, "tripod-ai": 52, "clear-derm": 25, "metrics": 30}[name]
    assert sum(found["counts"].values()) == len(found["items"])
    assert min(found["counts"].values()) > 0
    for item in found["items"]:
        assert (item["status"] == "person") == (not item["facts"])
        assert all(fact["text"] and fact["source"] for fact in item["facts"])
    text = visible(page)
    assert text.count("To be written by a person.") == found["counts"]["person"]
    assert load_standard(name).title in text
    assert all(item["asks"] in text for item in found["items"])


def test_every_item_of_a_checklist_names_known_facts(doubtful: Workspace) -> None:
    known = FactSheet.names()
    for standard in map(load_standard, STANDARDS):
        assert len({item.number for item in standard.items}) == len(standard.items)
        for item in standard.items:
            assert set(item.facts) <= known
    text = visible(report(doubtful, standard="claim", lang="zh-CN")["index.html"])
    assert "需由人撰写" in text
    with pytest.raises(ConfigError):
        report(doubtful, standard="claim", audience="clinic")


# ------------------------------------------------------------------------------------------------------ the clinic


def counts_of(page: str, cohort: str) -> list[list[int]]:
    """The cells of a two by two table and its sums."""
    (table,) = re.findall(rf"<caption>{cohort} \(.*?</table>", page, re.DOTALL)
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', table, re.DOTALL)
    return [[int(cell) for cell in re.findall(r'class="number[^"]*">([\d,]+)<', row)] for row in rows]


def test_counts_on_every_page_are_those_of_the_scored_photos(study: Workspace, research: str, clinic: str) -> None:
    for cohort in ("pad", "jinan"):
        table = pd.read_parquet(study.path(Ref("predictions", cohort, MODEL)) / "table.parquet")
        table = table[table["level"] == "image"]
        cases = pd.read_parquet(study.path(Ref("cases", cohort)) / "table.parquet").set_index("case_id")
        malignant = np.array([PAD6[cases.at[c, "diagnosis"]] in CLASSES.malignant for c in table["case_id"]])
        alarm = (table["call"] == "malignant").to_numpy()
        sums = [[int((of & alarm).sum()), int((of & ~alarm).sum()), int(of.sum())] for of in (malignant, ~malignant)]
        expected = [*sums, [a + b for a, b in zip(*sums, strict=True)]]
        for page in (research, clinic):
            assert counts_of(page, cohort) == expected
            missed, n = expected[0][1], expected[0][2]
            assert re.search(rf"\b{missed} of {n}\b", visible(page))
        metrics_ = pd.read_parquet(study.path(Ref("metrics", cohort, MODEL)) / "table.parquet")
        here = (metrics_["class"] == "malignant") & (metrics_["subgroup"] == "all")
        row = metrics_[here & (metrics_["metric"] == "sensitivity") & (metrics_["decision_rule"] == "veto")].iloc[0]
        most = f"{np.ceil(100 * (1 - row['lower']) - 1e-9):.0f} % possible"
        assert f"{missed} of {n} photos of malignant lesions missed, up to {most}" in visible(clinic)


def test_no_page_speaks_of_a_hundred_that_were_not_there(research: str, clinic: str) -> None:
    for page in (research, clinic):
        assert not re.search(r"[Oo]f 100 |per 100", visible(page))


def test_the_worse_cohort_stands_beside_the_one_to_trust_on_a_card(study: Workspace, clinic: str) -> None:
    from skinkit.reporting.evidence import CohortEvidence

    share = {}
    for name in ("pad", "jinan"):
        found = CohortEvidence(study.cohort(name), {"metrics": open_artifact(study.path(Ref("metrics", name, MODEL)))})
        assert found.alarms is not None
        share[name] = found.alarms.share_missed
    card = visible(clinic[clinic.index('id="lesion-8"') :])
    assert "jinan (external cohort, never trained on)" in card
    assert ("pad (development cohort, held-out folds)" in card) == (share["pad"] > share["jinan"])


def test_the_likeliest_malignant_diagnosis_is_never_hidden(study: Workspace, clinic: str) -> None:
    say = words.Words("en")
    table = pd.read_parquet(study.path(Ref("predictions", "ward", MODEL)) / "table.parquet")
    table = table[table["level"] == "lesion"].set_index("case_id")
    columns = [f"p__diagnosis__{c}" for c in CLASSES.classes if c in CLASSES.malignant]
    hidden = 0
    for part in clinic.split('<article class="card')[1:]:
        name = visible(re.findall(r"<h2>(.*?)[<\s]", part)[0]).strip()
        row = table.loc[name]
        code = str(row[columns].astype(float).idxmax()).removeprefix("p__diagnosis__")
        hidden += code not in (row["top1"], row["top2"])
        worst = say.diagnosis(CLASSES.labels[code])
        suspected = visible(re.findall(r"<dd>(.*?)</dd>", part, re.DOTALL)[0])
        assert worst in suspected
        assert say.probability(float(row[columns].max())).replace("\u00a0", " ") in suspected
    assert hidden


def one_case(tmp_path: Path, case: Mapping[str, Any], **row: Any) -> str:
    """The card of one lesion without alarm, with these columns in case and prediction."""
    workspace = make(tmp_path, [Cohort("ward", "inference", 1, labelled=False)])
    cases = pd.read_parquet(workspace.path(Ref("cases", "ward")) / "table.parquet").assign(**case)
    write(workspace, Ref("cases", "ward"), cases)
    keys = cases.iloc[0][list(IDS)].to_dict()
    calm = {**predicted(np.full(6, 1 / 6)), "top1": "NEV", "top1_p": 0.9, "prediction_set": "NEV", "refer": False}
    calm |= {"refer_reason": None, "call": "benign", "veto": False, "malignancy": 0.06}
    table = [{**calm, **keys, "level": "image", "n_cases": 1, **row}]
    write(workspace, Ref("predictions", "ward", MODEL), table, {"classes": CLASSES.as_dict(), "threshold": 0.3})
    return report(workspace, audience="clinic")["index.html"]


@pytest.mark.parametrize(
    ("case", "row", "state"),
    [
        ({"bleed": "False"}, {}, "none"),
        ({"bleed": "UNK", "grew": None}, {}, "none"),
        ({"bleed": "False", "grew": "True"}, {}, "sign"),
        ({"bleed": "True"}, {"malignancy": 0.2}, "sign"),
        ({"bleed": "False"}, {"malignancy": 0.15}, "near"),
        ({"bleed": "False"}, {"malignancy": 0.149}, "none"),
        ({"bleed": "True"}, {"refer": True, "refer_reason": "undecided"}, "cannot_tell"),
        ({"bleed": "True"}, {"call": "malignant", "malignancy": 0.4, "refer": True}, "alarm"),
    ],
)
def test_states_by_hand(tmp_path: Path, case: dict[str, Any], row: dict[str, Any], state: str) -> None:
    say, page = words.Words("en"), one_case(tmp_path, case, **row)
    card = page[page.index('<article class="card') :]
    assert visible(re.findall(r'<p class="advice[^"]*">(.*?)</p>', card)[0]).strip() == say(f"state.{state}")
    signs = [say.attribute(name) for name in ("grew", "bleed") if case.get(name) == "True"]
    assert say(f"next.{state}", signs=", ".join(signs)) in visible(card)
    assert [say("reported", sign=sign) in visible(card) for sign in signs] == [True] * len(signs)


def explained_as(
    workspace: Workspace, weights: list[dict[str, Any]], heat: int = 200, cohort: str = "ward"
) -> dict[str, str]:
    """The worklist after every explanation of a cohort was replaced by these contributions and a map of one value."""
    ref = Ref("explanations", cohort, MODEL)
    table = open_artifact(workspace.path(ref)).table()
    table["attributions_json"] = json.dumps(weights)
    grey = np.full((phantoms.HEIGHT_PX, phantoms.WIDTH_PX), heat, np.uint8)
    write(workspace, ref, table, {}, dict.fromkeys(table["heatmap_file"], png_bytes(grey)))
    return report(workspace, audience="clinic")


def test_a_photo_that_counts_for_little_has_no_heatmap_but_a_note(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("ward", "inference", 2, labelled=False)])
    say = words.Words("en")
    age = {"attribute": "age_years", "value": 71.0, "contribution": 0.9}
    for of_photo, shown in ((0.05, False), (0.15, True)):
        seen = [
            {"attribute": "image", "value": None, "contribution": of_photo / 2},
            {"attribute": "original_shape2D_Sphericity", "value": 0.7, "contribution": -of_photo / 2},
        ]
        share = say.probability(of_photo / (0.9 + of_photo)).replace("\u00a0", " ")
        page = explained_as(workspace, [age, *seen])["index.html"]
        text = visible(page)
        assert say("photo_share", share=share) in text
        assert (say("little_photo", share=share) in text) != shown
        assert ('<figure class="heat">\n<img' in page) == shown
    text = visible(explained_as(workspace, [age, *seen], heat=0)["index.html"])
    assert say("empty_map") in text
    other = {"attribute": "another_model", "value": None, "contribution": 0.4}  # its share of the photo is not known
    assert say("photo_share", share="").partition(":")[0] not in visible(
        explained_as(workspace, [age, *seen, other])["index.html"]
    )


def test_what_is_not_known_is_no_reason(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("ward", "inference", 2, labelled=False)])
    weights = [
        {"attribute": "bleed", "value": "UNK", "contribution": 2.5},
        {"attribute": "sex", "value": None, "contribution": 1.4},
        {"attribute": "site", "value": "torso", "contribution": 0.1},
        {"attribute": "image", "value": None, "contribution": -0.7},
    ]
    page = explained_as(workspace, weights)["index.html"]
    tables = re.findall(r'<table class="plain-table influences">.*?</table>', page, re.DOTALL)
    assert len(tables) == 2
    for table in tables:
        assert [visible(name).strip() for name in re.findall(r'<th scope="row">(.*?)</th>', table)] == [
            "the photo itself", "site: torso",
        ]  # fmt: skip
        assert "strongly" not in table
    assert words.Words("en")("influences.unknown", names="bleeds, sex") in visible(page)


def test_outlines_are_warned_of_only_where_the_model_reads_them(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("pad", "development", 12), Cohort("ward", "inference", 6, labelled=False)])
    pages = [report(workspace)["index.html"], report(workspace, audience="clinic")["index.html"]]
    assert all("Otsu" in visible(page) for page in pages)
    overlap = words.Words("en")("caution.overlap", iou="40 %")
    assert overlap.partition("(")[0] in visible(pages[1])  # ward-000 overlaps by 0.4 with the outline of a person
    path = workspace.path(Ref("models", name=MODEL))
    card = json.loads((path / "model.json").read_text(encoding="utf-8"))
    card["radiomics"] = {"features": []}
    rows = open_artifact(path).table()
    write(workspace, Ref("models", name=MODEL), rows, {}, {"model.json": json.dumps(card).encode()})
    pages = [report(workspace)["index.html"], report(workspace, audience="clinic")["index.html"]]
    assert not any("Otsu" in visible(page) or overlap.partition("(")[0] in visible(page) for page in pages)


def test_warnings_are_the_same_on_every_page(doubtful: Workspace) -> None:
    say = words.Words("en")
    research, clinic = (report(doubtful, **given)["index.html"] for given in ({}, {"audience": "clinic"}))
    for key in ("shortcuts", "relabelled", "external", "gaps", "confirmation", "attributes", "missed"):
        begin = say(f"warn.{key}", where="\0").partition("\0")[0]
        assert [begin in visible(page) for page in (research, clinic)] == [True, True], key
    shortcut = say("caution.shortcuts")
    lacking = say("caution.missing", n=1)
    cards_ = [visible(part) for part in clinic.split('<article class="card')[1:]]
    assert all(shortcut in card for card in cards_)
    assert any(lacking in card for card in cards_)


def test_clinical_paper_has_boxes_and_no_commands(clinic: str) -> None:
    text = visible(clinic)
    assert "skinkit explain" not in text
    assert "--" not in text
    say = words.Words("en")
    for part in clinic.split('<article class="card')[1:]:
        assert part.count("☐") == 4 + 3 + 7 + 5
        paper = visible(part)
        keys = ("box.abcd", "box.three", "box.seven", "box.action", "notes", "notes.date", "notes.sign")
        assert [key for key in keys if say(key) not in paper] == []
        assert "assessed on: 2" in paper
        assert "no scale" in paper


def test_lesions_of_a_report_have_one_place_each_with_heatmap_and_reasons(research: str) -> None:
    part = research[research.index('id="lesions"') : research.index('id="radiomics"')]
    articles = re.findall(r'<article class="lesion">.*?</article>', part, re.DOTALL)
    names = [visible(re.findall(r"<h4>(.*?)</h4>", article)[0]) for article in articles]
    assert len(names) == len(set(names))
    assert all(article.count("<img ") == 2 and "for" in article for article in articles)
    missed = [article for article in articles if words.Words("en")("missed") in article]
    assert missed
    assert all("strongly" in article for article in missed)


# ----------------------------------------------------------------------------------------------- other languages


def test_a_page_in_another_language_stands_beside_the_english_one(study: Workspace) -> None:
    for given, name in (({}, "research"), ({"audience": "clinic"}, CLINIC), ({"standard": "claim"}, "standard-claim")):
        for lang, suffix in (("en", ""), ("zh-CN", ".zh-CN")):
            made, _ = run_stage(study, "report", lang=lang, **given)
            assert [artifact.path.name for artifact in made] == [name + suffix]
        english = (study.path(Ref("report", name=name)) / "index.html").read_text(encoding="utf-8")
        assert '<html lang="en">' in english


def test_a_third_language_is_one_file(tmp_path: Path) -> None:
    workspace = make(tmp_path, [Cohort("ward", "inference", 2, labelled=False)])
    with pytest.raises(ConfigError, match=r"languages.fr\.toml"):
        report(workspace, audience="clinic", lang="fr")
    (tmp_path / "languages").mkdir()
    file = tmp_path / "languages" / "fr.toml"
    file.write_text('worklist.fr = "Liste de travail"\nsite.fr = "x"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="site"):
        report(workspace, audience="clinic", lang="fr")
    file.write_text('card.rank.fr = "{rank} sur {all}"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="placeholders"):
        report(workspace, audience="clinic", lang="fr")
    file.write_text('worklist.fr = "Liste de travail"\n[state]\nalarm.fr = "Alarme"\n', encoding="utf-8")
    page = report(workspace, audience="clinic", lang="fr")["index.html"]
    assert '<html lang="fr">' in page
    assert "Liste de travail" in visible(page)
    assert words.Words("en")("research_only") in visible(page)  # what has no text there is English
    file.write_text('worklist.fr = "Liste"\n', encoding="utf-8")
    assert "Liste de travail" not in report(workspace, audience="clinic", lang="fr")["index.html"]


@pytest.mark.parametrize("name", ["claim", "tripod-ai"])
def test_a_checklist_is_a_table_to_write_in(doubtful: Workspace, name: str) -> None:
    from markdown_it import MarkdownIt

    page = report(doubtful, standard=name)["index.html"]
    folder = doubtful.path(Ref("report", name=f"standard-{name}"))
    found = json.loads((folder / "checklist.json").read_text(encoding="utf-8"))
    assert page.count("<textarea") == 2 * len(found["items"])
    markdown = (folder / "checklist.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(markdown)
    cells = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type in ("td_open", "th_open")]
    rows = [cells[n : n + 5] for n in range(0, len(cells), 5)]
    written = [row for row in rows if row[0] != words.Words("en")("standard.item")]
    assert [row[0] for row in written] == [item["number"] for item in found["items"]]
    assert [row[1] for row in written] == [" ".join(item["asks"].split()) for item in found["items"]]
    assert all(row[4] == "" for row in written)
    assert all(
        fact["source"] in row[2] for row, item in zip(written, found["items"], strict=True) for fact in item["facts"]
    )
