"""audit: audit the data for shortcuts that predict malignancy.

Tests missing values, files (size, format, JPEG quality, EXIF, dark borders), image sources and how diagnoses were
confirmed. Each cue is reported with its AUROC, a 95 % interval over patients and a verdict. Then the values of every
attribute, radiomic feature and pair of them are searched for columns that nearly determine the label (--no-values: not
at all; --leave-out COLUMN: not that one). Files are written to 'audit/<cohort>' of the workspace: shortcuts.parquet,
shortcuts.json, figures/shortcuts.svg, label_attributes.parquet and label_attributes.json. With --table the cases come
from a CSV or Parquet table, without a workspace. 'skinkit evaluate' audits the cases that it scores for shortcuts;
'skinkit train' the values that it learns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.tables import write_table
from skinkit.commands import Context
from skinkit.commands._output import folder_of, write_study
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.options import Help, folder_for_files
from skinkit.schemas import OK
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.taxonomy import ClassSet

PANEL = "Data study", 1
SHARED_OPTIONS = ("workspace", "cohort", "jobs")

FOLDER = "audit"


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    table: Annotated[
        str, Help("audit this CSV or Parquet table instead of the workspace's cohorts", metavar="FILE")
    ] = ""
    truth_column: Annotated[str, Help("with --table: column of classes or diagnosis codes", rare=True)] = "diagnosis"
    cluster: Annotated[str, Help("with --table: column that names the patient", rare=True)] = "patient_id"
    classes: Annotated[str, "class set that defines what is malignant (default: the workspace's)"] = ""
    malignant: Annotated[str, "malignant set: pad or wang (default: the workspace's, else the class set's own)"] = ""
    files: Annotated[int, "largest number of image files read per cohort; 0: none"] = 1000
    values: Annotated[bool, "also search values for attributes that are the label"] = True
    leave_out: Annotated[
        tuple[str, ...], Help("columns whose values are not searched, repeatable", metavar="COLUMN", rare=True)
    ] = ()
    pairs: Annotated[int, Help("largest number of pairs of columns searched", rare=True)] = 20_000
    seed: Annotated[int, "seed of folds and sampling"] = 0
    out: Annotated[str, folder_for_files(f"{FOLDER}/<cohort>", "none with --table")] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Audit every labelled cohort, or one table."""
    from skinkit.audit import label_attributes, shortcuts

    if config.files < 0 or config.pairs < 0:
        raise ConfigError(
            f"--files {config.files}, --pairs {config.pairs}",
            "0 or more of both",
            "correct the values",
        )
    audits: dict[str, Any] = {}
    texts = []
    for name, table, classes, folder in _tables(config, context):
        import numpy as np

        rows = shortcuts.audit(
            shortcuts.cues_of(table, table.attrs.get("attributes")),
            np.array([code in classes.malignant for code in table["class"]]),
            table["cluster"].to_numpy(dtype=str),
            shortcuts.Setting(classes.malignant_set, config.seed),
        )
        audits[name] = shortcuts.as_dict(rows, classes.malignant_set)
        text = _text(name, rows, audits[name], table)
        files = {}
        if config.values:
            for column in config.leave_out:
                if column not in table:
                    known = did_you_mean(column, [str(one) for one in table.columns])
                    raise ConfigError(f"--leave-out {column}: {name} has no such column", known, "correct --leave-out")
            kinds = label_attributes.columns_of(table, *table.attrs.get("beside", ()), *config.leave_out)
            found = label_attributes.search(
                table, classes, kinds, seed=config.seed, ordered=bool(config.table), most_pairs=config.pairs
            )
            audits[name]["label_attributes"] = found.as_dict()
            text += f"\n\n{found.text}"
            files = found.write(folder) if folder is not None else {}
        if folder is not None:
            files |= _write_files(folder, rows)
            written = write_study(folder, "shortcuts", audits[name], text, files=files)
            audits[name] |= {"folder": str(folder), "files": written.files}
            text = written.text
        texts.append(text)
    return {"audits": audits, "text": "\n\n".join(texts)}


def _write_files(folder: Path, rows: pd.DataFrame) -> dict[str, str]:
    """The table and the figure; kind of file -> path."""
    from skinkit.audit import shortcuts

    write_table(folder / "shortcuts.parquet", shortcuts.SHORTCUTS, rows)
    files = {"parquet": str(folder / "shortcuts.parquet")}
    if rows["auroc"].notna().any():
        shortcuts.bar_chart(rows, into=(folder / "figures", "shortcuts"))
        files |= {kind: str(folder / "figures" / f"shortcuts.{kind}") for kind in ("svg", "png")}
    return files


def _tables(config: Config, context: Context) -> Iterator[tuple[str, pd.DataFrame, ClassSet, Path | None]]:
    """Name, cases with ``class`` and ``cluster``, class set, and output folder."""
    if config.table:
        table, classes = _outside_table(config)
        yield Path(config.table).stem, table, classes, Path(config.out) if config.out else None
        return
    workspace = context.workspace()
    chosen = context.labelled(workspace)
    ingested = [name for name in chosen if exists(workspace.path(Ref("cases", name)))]
    if not ingested:
        raise InputError(
            f"no labelled cohort of {workspace.root} has been read", "cases to audit", "run 'skinkit ingest' first"
        )
    for name in ingested:
        table, classes = _cohort(config, context, workspace, name)
        yield name, table, classes, folder_of(config.out, workspace, FOLDER, name)


def _cohort(config: Config, context: Context, workspace: Workspace, name: str) -> tuple[pd.DataFrame, ClassSet]:
    from skinkit.audit import file_cues
    from skinkit.taxonomy import class_set

    classes = class_set(
        config.classes or workspace.defaults["classes"],
        config.malignant or workspace.defaults["malignant"],
        workspace.root,
    )
    cases = open_artifact(workspace.path(Ref("cases", name))).table()
    cases["class"] = [classes.to_class(diagnosis) for diagnosis in cases["diagnosis"]]
    cases = cases[(cases["status"] == OK) & cases["class"].notna()].reset_index(drop=True)
    if cases.empty:
        raise InputError(
            f"no usable photo of {name} has a diagnosis that {classes.name} knows", "labelled photos", "give --classes"
        )
    root = workspace.cohort(name).root
    cases = file_cues.traced(
        cases, root, most=config.files, jobs=context.jobs, seed=config.seed, console=context.console
    )
    return _with_features(cases, workspace, name).assign(cluster=cases["group_id"]), classes


def _with_features(cases: pd.DataFrame, workspace: Workspace, name: str) -> pd.DataFrame:
    """The cases with the radiomic features of their photos, where the cohort was measured."""
    from skinkit.stats.encoders import radiomic_columns

    path = workspace.path(Ref("fused", name, workspace.defaults["segmenter"]))
    if not exists(path):
        return cases
    fused = open_artifact(path).table()
    joined = cases.merge(fused[["image_id", *radiomic_columns(fused.columns)]], on="image_id", how="left")
    joined.attrs, joined.index = cases.attrs, cases.index
    return joined


def _outside_table(config: Config) -> tuple[pd.DataFrame, ClassSet]:
    from skinkit.audit import shortcuts
    from skinkit.evaluation import outside_predictions
    from skinkit.taxonomy import class_set

    file = Path(config.table)
    table = outside_predictions.read(file)
    if config.truth_column not in table:
        raise InputError(
            f"{file} has no column {config.truth_column!r}",
            did_you_mean(config.truth_column, [str(name) for name in table.columns]),
            "name the column of the diagnosis with --truth-column",
        )
    classes = class_set(config.classes or "pad6", config.malignant)
    truth = [str(value) if value is not None else "" for value in table[config.truth_column]]
    table["class"] = [value if value in classes.classes else classes.to_class(value) for value in truth]
    left = table[table["class"].notna()].reset_index(drop=True)
    if left.empty:
        raise InputError(
            f"no row of {file} has a class of {classes.name}",
            f"classes {listed(classes.classes)}, or diagnosis codes",
            "give --truth-column or --classes",
        )
    numbered = left[config.cluster].fillna("") if config.cluster in left else left.index.astype(str)
    left = left.assign(cluster=[str(v) or f"row {i}" for i, v in enumerate(numbered)])
    left.attrs["attributes"] = shortcuts.attributes_of(left, config.truth_column, config.cluster)
    left.attrs["beside"] = (config.truth_column,)
    return left, classes


def _text(name: str, rows: pd.DataFrame, audit: Mapping[str, Any], cases: pd.DataFrame) -> str:
    """The table for a terminal; how diagnoses were confirmed always has a row."""
    import io

    from rich.console import Console
    from rich.table import Table

    from skinkit.audit import shortcuts

    table = Table(title=f"{name}: AUROC for malignancy (set '{audit['malignant_set']}') of what is not the lesion")
    for column, justify in (
        ("cue", "left"),
        ("", "left"),
        ("AUROC", "right"),
        ("95 % interval", "left"),
        ("n", "right"),
    ):
        table.add_column(column, justify="right" if justify == "right" else "left", no_wrap=column == "AUROC")
    table.add_column("verdict")
    own = rows["same_as"].isna() | (rows["family"] == shortcuts.CONFIRMATION)
    for row in rows[own].to_dict("records"):
        alike = rows.loc[(rows["same_as"] == row["cue"]) & ~own, "cue"].tolist()
        estimated = row["auroc"] == row["auroc"]
        table.add_row(
            f"{row['cue']}" + (f" (and {', '.join(alike)})" if alike else ""),
            str(row["family"]),
            f"{row['auroc']:.3f}" if estimated else "-",
            f"{row['lower']:.3f} to {row['upper']:.3f}" if row["lower"] == row["lower"] else "-",
            str(row["n"]),
            str(row["verdict"]).replace("_", " "),
        )
    for column in shortcuts.CONFIRMATIONS:
        if column in cases and column not in set(rows["cue"]):
            values = cases[column].dropna().unique()
            said = f"one value: {values[0]}" if len(values) else "not recorded"
            table.add_row(column, shortcuts.CONFIRMATION, "-", "-", str(int(cases[column].notna().sum())), said)
    stream = io.StringIO()
    Console(file=stream, width=110, color_system=None).print(table)
    return f"{stream.getvalue().rstrip()}\n\n{audit['verdict']}"
