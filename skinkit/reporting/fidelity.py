"""The page of ``skinkit synthesise --report``: what was made, how good it is, images beside the nearest photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.files import write_atomic
from skinkit.console import Console
from skinkit.evaluation.markdown import markdown_table
from skinkit.images.lab import DARK, TONES, tone_of
from skinkit.learning import fidelity
from skinkit.learning.fidelity import NOISE, OTHER_CLASS, SYNTHETIC, FeatureExtractor, Side
from skinkit.learning.near_copies import Squares
from skinkit.learning.rows import truth_of
from skinkit.learning.synthetic import PARENT, as_photos, learnt_by
from skinkit.reporting.study_files import Written, write_study
from skinkit.schemas import OK, SYNTHETIC_COHORT
from skinkit.taxonomy import ClassSet
from skinkit.workspace import Ref, Workspace

FOLDER = "fidelity"
"""Folder of the workspace that the pages are written to."""
COPY_LIMIT = 0.005
"""Share of copies above which a set of images is not to be handed on."""
_SHOWN = 12


def write_page(
    artifact: Artifact, name: str, workspace: Workspace, reader: FeatureExtractor, cosine: float, console: Console
) -> Written:
    """Measure synthetic images and write page, JSON, tables and pictures.

    Args:
        artifact: the images.
        name: how they are called.
        workspace: with the photos that their generator has learnt from.
        reader: a frozen network.
        cosine: above which an image counts as a copy, at least.
        console: messages and progress.
    """
    parent, table = artifact.json(PARENT), artifact.table()
    classes, folder = ClassSet.from_dict(parent["classes"]), workspace.root / FOLDER / name
    images = as_photos(table, name)
    files = {h: artifact.path / f for h, f in zip(images["pixel_sha256"], images["image_file"], strict=True)}
    side_px = int(images["side_px"].iloc[0])
    photos = Squares(workspace, side_px, files, console)
    learnt = _with_class(learnt_by(artifact.path), classes, workspace)
    rows, nearest, copied = [], [], []
    for fold, of_fold in images.groupby("fold"):
        own = learnt[learnt["fold"] == fold].drop_duplicates("pixel_sha256")
        pictures = pd.concat([of_fold, own])[["cohort", "pixel_sha256"]].astype(str)
        keys = list(pictures.itertuples(index=False, name=None))
        known = reader.vectors(keys, photos, workspace.root, console)
        made, real = Side.of(of_fold, known), Side.of(own, known)
        kept, labelled = made.where(made.rows["status"] == OK), real.where(real.rows["class"].notna())
        rows += fidelity.class_rows(int(str(fold)), labelled, kept, reader, side_px)
        places, cosines, copies = fidelity.nearest_photos(made, real, cosine)
        copied.append({"fold": int(str(fold)), **copies})
        if len(places):
            close = real.rows.iloc[places].reset_index(drop=True)
            columns = ["image_id", "fold", "class", "status", "reason", "pixel_sha256"]
            nearest.append(
                made.rows[columns].assign(
                    cosine=cosines,
                    nearest=close["cohort"] + "/" + close["case_id"],
                    nearest_cohort=close["cohort"],
                    nearest_pixels=close["pixel_sha256"],
                )
            )
    measured = pd.DataFrame(rows)
    close = pd.concat(nearest, ignore_index=True) if nearest else pd.DataFrame()
    tones = _tones(images, learnt, photos)
    written = _pictures(close, tones, photos, folder, parent["name"])
    for stem, frame in (
        ("fidelity", measured),
        ("nearest", close.drop(columns=["nearest_cohort", "nearest_pixels", "pixel_sha256"], errors="ignore")),
        ("tones", tones),
    ):
        written[stem] = _table(frame, folder / f"{stem}.parquet")
    info = artifact.info
    body: dict[str, Any] = {
        "name": name,
        "identity": artifact.identity,
        "parent": parent["name"],
        "licence": parent["licence"],
        "network": {"backbone": reader.backbone, "weights_sha256": reader.sha256, "second": reader.own},
        "side_px": side_px,
        "asked": info["asked"],
        "images": info["images"],
        "excluded": info["excluded"],
        "filters": info["filters"],
        "copies": _rates(copied, second=reader.own),
        "classes": rows,
        "tones": _tone_counts(tones),
    }
    text = _text(body)
    page = _page(body, text, written)
    if warning := _copy_warning(body["copies"]):
        console.warn(warning)
    return write_study(folder, FOLDER, body, text, page=page, files=written)


def _with_class(learnt: pd.DataFrame, classes: ClassSet, workspace: Workspace) -> pd.DataFrame:
    """The photos with their class, None where it is not known any more."""
    parts = []
    for cohort, of in learnt.groupby("cohort"):
        place = workspace.path(Ref("cases", str(cohort)))
        codes = pd.Series(None, index=of.index, dtype=object)
        if str(cohort) in workspace.cohorts and exists(place):
            cases = open_artifact(place).table(["case_id", classes.column]).drop_duplicates("case_id")
            truth, _ = truth_of(cases, classes)
            known = {case: classes.classes[k] for case, k in zip(cases["case_id"], truth, strict=True) if k >= 0}
            codes = of["case_id"].map(known).astype(object)
        parts.append(of.assign(**{"class": codes}))
    return pd.concat(parts, ignore_index=True) if parts else learnt.assign(**{"class": None})


def _tones(images: pd.DataFrame, learnt: pd.DataFrame, photos: Squares) -> pd.DataFrame:
    """``kind``, ``class`` and ``ita_deg`` of every photo and every image that is not excluded."""
    real = learnt[learnt["class"].notna()].drop_duplicates("pixel_sha256")
    sides = (("photos", real), ("synthetic", images[images["status"] == OK]))
    rows = [
        {"kind": kind, "class": code, "ita_deg": fidelity.tone(photos.read(str(cohort), str(pixels)))}
        for kind, of in sides
        for cohort, pixels, code in of[["cohort", "pixel_sha256", "class"]].itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=["kind", "class", "ita_deg"])


def _tone_counts(tones: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Kind -> tone -> pictures, of which the tone is known."""
    groups = tones["ita_deg"].map(tone_of)
    names = [*(name for _, name in TONES), DARK]
    return {
        kind: {name: int(((tones["kind"] == kind) & (groups == name)).sum()) for name in names}
        for kind in ("photos", "synthetic")
    }


def _rates(copied: Sequence[Mapping[str, Any]], *, second: bool) -> dict[str, Any]:
    """Shares of copies over all folds, before and after the filter, and among photos of different lesions."""
    sums = {
        name: sum(of[name] for of in copied) for name in ("n", "n_kept", "n_photos", "before", "after", "of_photos")
    }

    def share(name: str, of: str) -> float | None:
        return sums[name] / sums[of] if sums[of] else None

    after = share("after", "n_kept")
    return {
        "before": share("before", "n"),
        "after": after,
        "of_photos": share("of_photos", "n_photos"),
        "limit": COPY_LIMIT,
        "within_limit": None if after is None or not second else after <= COPY_LIMIT,
        "folds": list(copied),
    }


def _copy_warning(copies: Mapping[str, Any]) -> str:
    """What is wrong with the rate of copies; empty where nothing is."""
    if copies["after"] is None:
        return "no image can be compared with a photo, so nobody can say how many are copies: do not hand them on"
    if copies["within_limit"] is None:
        return (
            "the copy rate was not checked by a second network, whose weights are not here: "
            "'skinkit weights fetch mobilenet_v2', or --report-weights PATH"
        )
    if copies["within_limit"]:
        return ""
    return (
        f"{copies['after']:.2%} of the images repeat a training photo by the second network, more than the limit of "
        f"{COPY_LIMIT:.1%}: do not hand them on"
    )


def _pictures(close: pd.DataFrame, tones: pd.DataFrame, photos: Squares, folder: Path, parent: str) -> dict[str, str]:
    """The sheet of each class and the histograms of skin tones: kind of file -> path."""
    from skinkit.figures.photos import nearest_sheet
    from skinkit.figures.tones import tone_figure
    from skinkit.images.identity import slug

    files = {}
    kept = close[close["status"] == OK] if len(close) else close
    for code, of in kept.groupby("class") if len(kept) else ():
        chosen = of.sort_values("image_id").iloc[:: max(1, len(of) // _SHOWN)].head(_SHOWN)
        pairs = []
        for row in chosen.to_dict("records"):
            image = photos.read(SYNTHETIC_COHORT, row["pixel_sha256"])
            photo = photos.read(row["nearest_cohort"], row["nearest_pixels"])
            if image is not None and photo is not None:
                pairs.append((image, photo, f"fold {row['fold']}, cosine {row['cosine']:.2f}"))
        if pairs:
            file = folder / f"nearest_{slug(str(code))}.png"
            write_atomic(file, nearest_sheet(pairs, f"{code}: images by {parent} and the nearest training photo"))
            files[f"sheet_{code}"] = str(file)
    angles = {
        str(code): {str(kind): part["ita_deg"].to_numpy(dtype=float) for kind, part in of.groupby("kind")}
        for code, of in tones.groupby("class")
    }
    if angles:
        files |= {f"tones_{kind}": file for kind, file in tone_figure(angles, folder, "tones").items()}
    return files


def _table(frame: pd.DataFrame, file: Path) -> str:
    import pyarrow as pa

    from skinkit.artifacts.tables import parquet_bytes

    write_atomic(file, parquet_bytes(pa.Table.from_pandas(frame, preserve_index=False), {}))
    return str(file)


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:{form}}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _text(body: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    parts = ["## What was asked for and made"]
    rows = []
    for fold, of in body["images"].items():
        for code, kept in of.items():
            asked = body["asked"][fold][code]
            lost = [body["excluded"][reason][fold][code] for reason in ("repeats_photo", "disagrees")]
            if asked:
                rows.append([fold, code, str(asked), str(kept + sum(lost)), *map(str, lost), str(kept)])
    header = ["fold", "class", "asked for", "made", "repeat a photo", "disagree", "kept"]
    parts.append(markdown_table(header, rows))
    filters = body["filters"]
    agree = "No classifier judged the images."
    if filters["agree"]:
        agree = f"An image had to have its class by {filters['agree']} with a probability of {filters['agreement']:g}."
    parts.append(agree)
    parts += ["## Copies of training photos", *_copies_text(body)]
    parts += ["## How like real photos of the class", *_distances_text(body)]
    parts.append("## Skin tones")
    names = list(body["tones"]["photos"])
    rows = []
    for kind, counts in body["tones"].items():
        total = sum(counts.values())
        rows.append([kind, str(total), *(_share(counts[name] / total if total else None) for name in names)])
    parts.append(markdown_table(["pictures", "with a tone", *names], rows))
    parts.append(
        "Individual typology angle of the outer eighth of each picture. A generator has the tones of the photos it has "
        "learnt from, and what these lack it cannot add."
    )
    return "\n\n".join(parts)


def _copies_text(body: Mapping[str, Any]) -> list[str]:
    copies, network = body["copies"], body["network"]["backbone"]
    rows = [
        ["images before the filter", _share(copies["before"])],
        ["images after the filter", _share(copies["after"])],
        ["photos of different lesions", _share(copies["of_photos"])],
    ]
    limits = ", ".join(f"{of['limit']:.3f} (fold {of['fold']})" for of in copies["folds"])
    verdict = _copy_warning(copies)
    verdict = (
        f"**{verdict[0].upper()}{verdict[1:]}.**"
        if verdict
        else f"After the filter the share of copies is within the limit of {COPY_LIMIT:.1%}."
    )
    rule = [
        f"fold {fold}: {of['copies']} of {of['n']}"
        for fold, of in body["filters"]["photos_of_different_lesions"].items()
    ]
    return [
        verdict,
        markdown_table([f"copies by {network}", "share"], rows),
        f"A picture counts as a copy with a cosine above {limits} to a training photo of its fold: that of the filter, "
        "or the 99.5 % quantile of photos of different lesions where that is higher.",
        "The filter itself, which excludes images, calls of training photos copies of a photo of another lesion: "
        + "; ".join(rule)
        + ".",
    ]


def _distances_text(body: Mapping[str, Any]) -> list[str]:
    rows = []
    for row in body["classes"]:
        if row["compared"] == OTHER_CLASS and row is not _nearest_class(body["classes"], row):
            continue
        what = row["compared"] + (f": {row['with']}, the nearest" if row["with"] else "")
        kid = _number(row["kid"], ".4f") + (
            f" ± {row['kid_sd']:.4f}" if row["kid_sd"] and row["n"] > fidelity.LARGEST_SUBSET else ""
        )
        precision, recall = _number(row["precision"], ".2f"), _number(row["recall"], ".2f")
        rows.append([str(row["fold"]), row["class"], what, str(row["n"]), _number(row["fid"]), kid, precision, recall])
    header = ["fold", "class", "real photos against", "n", "FID", "KID", "precision", "recall"]
    above = [f"{of['class']} (fold {of['fold']}): {said}" for of in body["classes"] for said in _above(body, of)]
    few = sorted({f"{row['class']} (fold {row['fold']})" for row in body["classes"] if row["kid"] is None})
    parts = [markdown_table(header, rows)]
    if above:
        parts.append(f"**No nearer to its class than what it is to be better than: {'; '.join(above)}.**")
    if few:
        parts.append(f"Too few pictures for some line of {', '.join(few)}: at least {fidelity.FEWEST} of each side.")
    parts.append(
        f"Features of {body['network']['backbone']}, frozen, of pictures of {body['side_px']} px. FID and KID: smaller "
        "is nearer; KID is unbiased for few images and may be below 0 by chance, FID grows as n falls, so compare it "
        "within a class alone. ± is the standard deviation over random subsets, where there are enough. Precision: "
        "share of the images among real photos; recall: share of the photos among the images (k = 3). Every line of a "
        "class uses the same half of its real lesions."
    )
    return parts


def _nearest_class(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of the same fold and class, the line of the other class with the smallest KID."""
    others = [
        each
        for each in rows
        if (each["fold"], each["class"], each["compared"]) == (row["fold"], row["class"], OTHER_CLASS)
        and each["kid"] is not None
    ]
    return min(others, key=lambda each: each["kid"], default=None)


def _above(body: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    """Of a synthetic line, the reference lines that are as near or nearer."""
    if row["compared"] != SYNTHETIC or row["kid"] is None:
        return []
    near = [each for each in body["classes"] if (each["fold"], each["class"]) == (row["fold"], row["class"])]
    references = [each for each in near if each["compared"] == NOISE and each["kid"] is not None]
    other = _nearest_class(body["classes"], row)
    references += [other] if other is not None else []
    return [f"{each['with'] or each['compared']} is nearer" for each in references if each["kid"] <= row["kid"]]


def _page(body: Mapping[str, Any], text: str, files: Mapping[str, str]) -> str:
    total = sum(sum(of.values()) for of in body["images"].values())
    sheets = [
        f"![{kind.removeprefix('sheet_')}](<{Path(file).name}>)"
        for kind, file in files.items()
        if kind.startswith("sheet_")
    ]
    tones = f"\n\n![skin tones](<{Path(files['tones_png']).name}>)" if "tones_png" in files else ""
    shown = "\n\n".join(["## Images beside the nearest photo", *sheets]) if sheets else ""
    return (
        f"# {body['name']}: {total} synthetic images by {body['parent']}\n\n"
        "Synthetic images show no patient and are evidence of none. This page shows training photos of patients beside "
        f"them: treat it like the photos. Licence: {body['licence'] or 'not stated'}.\n\n{text}{tones}\n\n{shown}"
    )
