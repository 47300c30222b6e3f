"""quality: check whether photos are fit to be used, and calibrate the limits.

Ten checks of every photo of a cohort: focus, motion, exposure, clipping, glare, colour cast, resolution, framing,
compression and hair; on the lesion where a drawn mask is known, on the whole frame otherwise. The page shows the
refused photos with the reasons, worst first, and counts per Fitzpatrick group. --image checks one photo.
--calibrate puts the limits where at most 5 % of accepted photos are refused in each Fitzpatrick group, on three
quarters of the patients, and reports what they refuse on the rest. Files are written to 'quality/<cohort>' of the
workspace, or to --out: JSON, Parquet, Markdown, HTML and pictures. No check is a diagnosis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import Context
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import CaseError, ConfigError, InputError
from skinkit.options import Help, folder_for_files
from skinkit.schemas import OK
from skinkit.workspace import Cohort, Ref

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.images.quality_checks import Quality, Table

PANEL = "Data study", 4
SHARED_OPTIONS = ("workspace", "cohort", "jobs")

FOLDER = "quality"
_SHOWN_PX = 240
_ACROSS = 5
_UNREAD = "not read"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    image: Annotated[str, Help("check this one photo; needs no workspace", metavar="PHOTO")] = ""
    fitzpatrick: Annotated[int, "Fitzpatrick type of --image, 1 to 6; 0: not known"] = 0
    table: Annotated[str, Help("constants in TOML, as --calibrate writes them", metavar="FILE")] = ""
    calibrate: Annotated[bool, "write a table of limits that refuse at most 5 % of the accepted photos"] = False
    labels: Annotated[
        str, Help("with --calibrate: CSV of image_id and accepted (1 or 0); without it all are", metavar="FILE")
    ] = ""
    cases: Annotated[int, "refused photos shown"] = 60
    seed: Annotated[int, "seed of the choice of patients that calibrate"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Check one photo, or the photos of every cohort."""
    from skinkit.images.quality_checks import default_table

    if config.cases < 1 or config.fitzpatrick not in range(7):
        raise ConfigError(
            f"--cases {config.cases}, --fitzpatrick {config.fitzpatrick}", "1 or more, and 0 to 6", "correct the value"
        )
    if config.labels and not config.calibrate:
        raise ConfigError("--labels without --calibrate", "both", "add --calibrate, or leave --labels out")
    table = _read(config.table) if config.table else default_table()
    if config.image:
        if config.calibrate:
            raise ConfigError("--image and --calibrate", "one of them", "leave one of them out")
        return _one(Path(config.image), str(config.fitzpatrick or "") or None, table)
    workspace = context.workspace()
    answers, texts = {}, []
    names = list(context.cohorts or workspace.cohorts)
    artifacts = {
        name: open_artifact(workspace.path(Ref("cases", name)), f"run 'skinkit ingest --cohort {name}'")
        for name in names
    }
    for name, artifact in artifacts.items():
        cohort, cases = workspace.cohort(name), artifact.table()
        cases = cases[cases["status"] == OK].reset_index(drop=True)
        with ThreadPoolExecutor(context.jobs) as pool:
            measured = list(pool.map(partial(_measured, cohort, table), cases.to_dict("records")))
        folder = folder_of(config.out, workspace, FOLDER, name)
        folder.mkdir(parents=True, exist_ok=True)
        if config.calibrate:
            answer, text = _calibrated(config, cases, measured, table, folder, name)
        else:
            answer, text = _checked(config, cohort, cases, measured, table, folder)
        answers[name] = answer
        texts.append(text)
    return {"quality": answers, "text": "\n\n".join(texts)}


def _read(file: str) -> Table:
    from skinkit.images.quality_checks import read_table

    try:
        return read_table(Path(file).read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{file} cannot be read", "a table of quality checks in TOML", "correct --table") from None


def _one(photo: Path, skin: str | None, table: Table) -> dict[str, Any]:
    from skinkit.images.advice import unusable
    from skinkit.images.decode import read_rgb
    from skinkit.images.quality_checks import assess, words

    try:
        found = assess(read_rgb(photo), fitzpatrick=skin, table=table)
    except CaseError as error:
        raise unusable(error, photo) from None
    lines = [f"{photo.name}: {found.verdict}"]
    for name, check in found.checks.items():
        value = "" if check.value is None else f"{check.value:.3g}"
        lines.append(f"  {name:<12}{check.status:<9}{value:<9}{words('en').get(check.remedy, '')}".rstrip())
    body = {name: {"value": c.value, "status": c.status, "remedy": c.remedy} for name, c in found.checks.items()}
    text = "\n".join([*lines, "Research software: no diagnosis."])
    return {"photo": photo.name, "verdict": found.verdict, "checks": body, "text": text}


def _measured(cohort: Cohort, table: Table, row: Mapping[str, Any]) -> dict[str, float | None] | None:
    """What is measured of a photo, on its drawn mask where there is one; None where it cannot be read."""
    from skinkit.images.decode import read_rgb
    from skinkit.images.drawn_masks import read_drawn_mask
    from skinkit.images.mask_reading import Reading
    from skinkit.images.quality_checks import measure

    try:
        rgb = read_rgb(cohort.root / row["image_path"])
    except CaseError:
        return None
    mask = None
    if isinstance(path := row.get("truth_mask_path"), str) and path:
        try:
            mask = read_drawn_mask(cohort.root / path, (rgb.shape[1], rgb.shape[0]), Reading.of_case(row))[0]
        except CaseError:
            mask = None
    return measure(rgb, mask, table)


def _types(cases: pd.DataFrame) -> list[str | None]:
    values = cases["fitzpatrick"] if "fitzpatrick" in cases else [None] * len(cases)
    return [str(int(v)) if v == v and v in (1, 2, 3, 4, 5, 6) else None for v in values]


def _counts(
    types: Sequence[str | None],
    verdicts: Sequence[str],
    patients: Sequence[str],
    rejected: Sequence[bool] | None = None,
) -> list[dict[str, Any]]:
    """Photos, patients and refusals of each Fitzpatrick group; no share of a group too small for one."""
    from skinkit.images.quality_limits import FEWEST, group_of

    out = []
    groups = [group_of(skin) for skin in types]
    for group in ("I-II", "III-IV", "V-VI", "unknown"):
        at = [i for i, one in enumerate(groups) if one == group and not (rejected and rejected[i])]
        refused = sum(verdicts[i] == "fail" for i in at)
        out.append(
            {
                "group": group,
                "photos": len(at),
                "patients": len({patients[i] for i in at}),
                "refused": refused,
                "warned": sum(verdicts[i] == "warn" for i in at),
                "share": refused / len(at) if len(at) >= FEWEST and group != "unknown" else None,
            }
        )
    return out


def _rows_of(counts: Sequence[Mapping[str, Any]]) -> list[str]:
    def share(one: Mapping[str, Any]) -> str:
        return "no claim" if one["share"] is None else f"{one['share']:.1%}"

    return [
        "| Fitzpatrick | photos | patients | refused | warned | refused, share |",
        "|---|---|---|---|---|---|",
        *(
            f"| {c['group']} | {c['photos']} | {c['patients']} | {c['refused']} | {c['warned']} | {share(c)} |"
            for c in counts
        ),
    ]


def _checked(
    config: Config,
    cohort: Cohort,
    cases: pd.DataFrame,
    measured: Sequence[Mapping[str, float | None] | None],
    table: Table,
    folder: Path,
) -> tuple[dict[str, Any], str]:
    """The table, the page and the pictures of one cohort."""
    import pandas as pd

    from skinkit.artifacts.files import write_atomic
    from skinkit.images.encode import png_bytes
    from skinkit.images.quality_checks import judge

    types = _types(cases)
    found = [None if m is None else judge(m, table, skin) for m, skin in zip(measured, types, strict=True)]
    rows = [_row(image, one) for image, one in zip(cases["image_id"], found, strict=True)]
    frame = pd.DataFrame(rows)
    sink = frame.to_parquet(index=False)
    write_atomic(folder / "photos.parquet", sink)
    verdicts = [row["verdict"] for row in rows]
    counts = _counts(types, verdicts, cases["group_id"].astype(str).tolist())
    per_check = {
        name: {s: int((frame[f"{name}_status"] == s).sum()) for s in ("pass", "warn", "fail", "unknown")}
        for name in table
        if f"{name}_status" in frame
    }
    worst = sorted(
        (i for i, one in enumerate(found) if one is not None and one.verdict == "fail"),
        key=lambda i: (-len(found[i].failed), rows[i]["image_id"]),  # type: ignore[union-attr]
    )
    files = {"parquet": str(folder / "photos.parquet")}
    if worst:
        shown = [(cohort.root / cases["image_path"][i], ", ".join(found[i].failed)) for i in worst[: config.cases]]  # type: ignore[union-attr]
        write_atomic(folder / "refused.png", png_bytes(_sheet(shown)))
        files["png"] = str(folder / "refused.png")
    page = [
        f"# Quality of the photos of {cohort.name}", "", f"{len(rows)} photos, {verdicts.count('fail')} refused.", "",
        "## Fitzpatrick groups", "", *_rows_of(counts), "", "## Checks", "",
        "| check | pass | warn | fail | unknown |", "|---|---|---|---|---|",
        *(f"| {n} | {c['pass']} | {c['warn']} | {c['fail']} | {c['unknown']} |" for n, c in per_check.items()), "",
        "## Refused, worst first", "",
        *(["![refused photos and the checks that they fail](refused.png)", ""] if worst else ["None.", ""]),
    ]  # fmt: skip
    n = len(rows)
    body = {"photos": n, "refused": verdicts.count("fail"), "unread": verdicts.count(_UNREAD), "groups": counts}
    text = f"{cohort.name}: {verdicts.count('fail')} of {n} photos refused, {verdicts.count('warn')} with a warning"
    lines = [text, *(f"  {c['group']:<9}{c['refused']} of {c['photos']}" for c in counts)]
    body |= {"checks": per_check}
    written = write_study(
        folder,
        "quality",
        body,
        "\n".join([*lines, "Research software: no diagnosis."]),
        page="\n".join(page),
        files=files,
    )
    return {**written.body, "files": written.files}, written.text


def _row(image_id: str, found: Quality | None) -> dict[str, Any]:
    from skinkit.images.quality_checks import CHECKS

    row: dict[str, Any] = {"image_id": str(image_id), "verdict": _UNREAD if found is None else found.verdict}
    for name in CHECKS:
        check = None if found is None else found.checks[name]
        row |= {
            name: None if check is None else check.value,
            f"{name}_status": "unknown" if check is None else check.status,
        }
    return row


def _sheet(shown: Sequence[tuple[Path, str]]) -> Any:
    """A contact sheet (H, W, 3) of photos with the names of the checks that they fail."""
    import numpy as np
    from PIL import Image, ImageDraw

    from skinkit.images.decode import read_rgb

    line, rows = 30, -(-len(shown) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * _SHOWN_PX, rows * (_SHOWN_PX + line)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (file, why) in enumerate(shown):
        photo = Image.fromarray(read_rgb(file))
        photo.thumbnail((_SHOWN_PX - 6, _SHOWN_PX - 6))
        x, y = place % _ACROSS * _SHOWN_PX, place // _ACROSS * (_SHOWN_PX + line)
        sheet.paste(photo, (x + 3, y + 3))
        parts = why.split(", ")
        pen.text((x + 4, y + _SHOWN_PX - 2), ", ".join(parts[:3]) + "\n" + ", ".join(parts[3:]), fill="black")
    return np.asarray(sheet)


def _calibrated(
    config: Config,
    cases: pd.DataFrame,
    measured: Sequence[Mapping[str, float | None] | None],
    table: Table,
    folder: Path,
    name: str,
) -> tuple[dict[str, Any], str]:
    """A table of limits from three quarters of the patients, and what it refuses of the rest."""
    import numpy as np
    import tomli_w

    from skinkit.artifacts.files import write_atomic
    from skinkit.images.quality_checks import judge
    from skinkit.images.quality_limits import calibrated, recast

    accepted = _accepted(config.labels, cases)
    usable = [i for i, one in enumerate(measured) if one is not None and accepted[i] is not None]
    values = {i: one for i in usable if (one := measured[i]) is not None}
    types, patients = _types(cases), cases["group_id"].astype(str).tolist()
    known = sorted({patients[i] for i in usable})
    order = np.random.default_rng(config.seed).permutation(len(known))
    fitted_on = {known[i] for i in order[: round(0.75 * len(known))]}
    fit = [i for i in usable if patients[i] in fitted_on and accepted[i]]
    rest = [i for i in usable if patients[i] not in fitted_on]
    new = calibrated([values[i] for i in fit], [types[i] for i in fit], table)
    verdicts = [judge(recast(values[i], new["cast"]["reference"]), new, types[i]).verdict for i in rest]
    rejected = [not accepted[i] for i in rest]
    counts = _counts([types[i] for i in rest], verdicts, [patients[i] for i in rest], rejected)
    caught = sum(v == "fail" for v, no in zip(verdicts, rejected, strict=True) if no)
    file = folder / "quality.toml"
    write_atomic(file, tomli_w.dumps(new).encode())
    body = {
        "calibrated_on": {"photos": len(fit), "patients": len(fitted_on)},
        "judged_on": {"photos": len(rest), "patients": len({patients[i] for i in rest})},
        "groups": counts,
        "rejected": {"photos": sum(rejected), "refused": caught},
        "table": new,
    }
    head = f"{name}: limits from {len(fit)} accepted photos; judged on {len(rest)} photos of other patients"
    lines = [head, *(f"  {c['group']:<9}{c['refused']} of {c['photos']} accepted refused" for c in counts)]
    lines += [f"  rejected {caught} of {sum(rejected)} refused", "Research software: no diagnosis."]
    written = write_study(folder, "calibration", body, "\n".join(lines), files={"toml": str(file)})
    return {**written.body, "files": written.files}, written.text


def _accepted(file: str, cases: pd.DataFrame) -> list[bool | None]:
    """Whether each photo was accepted; None where nobody says."""
    if not file:
        return [True] * len(cases)
    import csv

    try:
        with Path(file).open(encoding="utf-8", newline="") as stream:
            said = {row["image_id"]: row["accepted"].strip() for row in csv.DictReader(stream)}
    except (OSError, UnicodeDecodeError, KeyError, AttributeError):
        said = {"": "?"}
    if not said or not set(said.values()) <= {"0", "1"}:
        raise InputError(
            f"{file}: no columns image_id and accepted with 1 or 0", "a CSV with both columns", "correct --labels"
        )
    return [None if (one := said.get(str(image))) is None else one == "1" for image in cases["image_id"]]
