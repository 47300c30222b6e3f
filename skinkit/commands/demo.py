"""demo: generate phantom lesions and run the chain on them.

Three cohorts are generated in a new workspace: 'phantoms' (development), 'jinan' (a second hospital with another camera
and a Chinese table, external) and 'walk_in' (patients without a diagnosis). Four models are trained on them: a U-Net
that outlines, LightGBM on radiomics, the hybrid of photo, outline and radiomics, and DermaCalibra with its uncertainty.
The commands are printed as they are run; their settings stand in skinkit.toml. --tables leaves the networks out (Otsu's
threshold, radiomics and LightGBM), and so does an installation without PyTorch.

The figures on phantoms show that the chain works, not how well it classifies skin lesions. A rerun keeps finished work.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from skinkit.artifacts.artifact import exists
from skinkit.artifacts.files import write_atomic
from skinkit.commands import Context
from skinkit.commands.init import DECLARED, networks_installed
from skinkit.commands.run import run_chain
from skinkit.data.folder import DESCRIPTION
from skinkit.errors import RefusedError
from skinkit.models.parts.weights import LITE
from skinkit.options import Help
from skinkit.pipeline import Pipeline
from skinkit.workspace import SETTINGS_FILE, Ref, Workspace, load_workspace, settings_text

PANEL = "Start", 1
SHARED_OPTIONS = ("jobs", "device")

BEGUN, DRAWN = "sources/.begun", "sources/.drawn"
_PHANTOMS_ARE_PHANTOMS = "The figures on phantoms show that the chain works, not how well it classifies skin lesions."
_SMALL = ["side_px=96", "augment.largest_scale=1.15"]
_TABLES: Mapping[str, str] = {"segmenter": "otsu", "model": "lightgbm", "classes": "pad6"}
_NETWORKS: Mapping[str, str] = {"segmenter": "unet", "model": "derma_calibra", "classes": "pad6"}
_PHANTOMS = {"train": {"allow_untrained": "drawn phantoms, which show that the chain works"}}
"""Few phantoms leave too few validation cases to show that a model has learnt."""
_BESIDE = ("lightgbm", "hybrid")
"""Models that the workspace's own is compared with."""
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "train.unet": {"settings": ["side_px=96", "recipe.epochs=4", "recipe.steps=24"]},
    "train.hybrid": {
        "model": "hybrid_resnet50",
        "preset": "quick",
        "settings": [f"backbone={LITE}", *_SMALL, "recipe.epochs=10"],
    },
    "train.derma_calibra": {
        "preset": "quick",
        "settings": [
            f"backbone={LITE}",
            *_SMALL,
            "mirrored=false",
            "turned=false",
            "recipe.epochs=10",
            "recipe.final_epochs=0",
        ],
    },
    "explain": {"cases": 4},
}
"""Of the networks: small sides and few epochs, which are enough for phantoms and for nothing else."""


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    folder: Annotated[str, Help("workspace of the demo; created if absent", positional=True, writes="workspace")] = (
        "skinkit-demo"
    )
    lesions: Annotated[int, "lesions of the development cohort; the others scale with it"] = 120
    seed: Annotated[int, "random seed of the lesions"] = 0
    tables: Annotated[bool, "without networks: Otsu's threshold, radiomics and LightGBM, in under a minute"] = False
    draw_only: Annotated[bool, "generate the cohorts and write skinkit.toml without running the chain"] = False


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Generate the cohorts, run the chain, and name the report."""
    began = time.monotonic()
    folder = Path(config.folder).expanduser()
    _draw(folder, config, context)
    if config.draw_only:
        return {"workspace": str(folder.resolve()), "text": f"drew the demo workspace {folder}"}
    workspace = load_workspace(folder)
    pipeline = context.pipeline(workspace)
    commands = _run(workspace, pipeline)
    failures = sum(s.artifact.manifest["counts"]["newly_failed"] for s in pipeline.steps if not s.fresh)
    report = workspace.path(Ref("report", name="research")) / "index.html"
    clinic = workspace.path(Ref("report", name="clinic-walk_in")) / "index.html"
    seconds = time.monotonic() - began
    return {
        "exit_code": 3 if failures else 0,
        "workspace": str(workspace.root),
        "report": str(report),
        "clinic_report": str(clinic),
        "commands": commands,
        "seconds": round(seconds, 1),
        "steps": [step.as_dict() for step in pipeline.steps],
        "text": "\n".join(
            (
                "",
                f"The whole chain ran on drawn phantom lesions in {seconds:.0f} s.",
                _PHANTOMS_ARE_PHANTOMS,
                "",
                f"  workspace      {workspace.root}",
                f"  clinic report  {clinic}",
                f"  report         {report}",
                "",
                "The same by hand, in the workspace:",
                "",
                *(f"  {command}" for command in commands),
            )
        ),
    }


def _run(workspace: Workspace, pipeline: Pipeline) -> list[str]:
    """The commands of the demo, each said before it is run; all of them."""
    said = []

    def command(text: str) -> None:
        pipeline.console.info(f"$ skinkit {text}")
        said.append(f"skinkit {text}")

    if workspace.defaults["segmenter"] == _NETWORKS["segmenter"]:
        command("train --model unet")
        _train(workspace, pipeline, "unet", {"model": "unet"})
        command("radiomics")
        pipeline.make("radiomics", {})
        command("train --model lightgbm")
        _train(workspace, pipeline, "lightgbm", {"model": "lightgbm"})
        command("train --name hybrid")
        _train(workspace, pipeline, "hybrid", {})
        for model in _BESIDE:
            command(f"evaluate --model {model}")
            pipeline.make("evaluate", {"model": model})
    command("run")
    run_chain(workspace, pipeline)
    return said


def _train(workspace: Workspace, pipeline: Pipeline, name: str, given: Mapping[str, Any]) -> None:
    """Train a model that is not there yet, inputs first; one that is there is left as it is."""
    if not exists(workspace.path(Ref("models", name=name))):
        pipeline.make("train", given, name="" if given else name)


def _draw(folder: Path, config: Config, context: Context) -> None:
    """Generate the three cohorts, once."""
    from skinkit.data.phantoms import Hospital, write_cohort

    if (folder / DRAWN).is_file():
        context.console.info(f"{folder}: already drawn, going on")
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / BEGUN).is_file():
        raise RefusedError(f"{folder} is not empty", "a new folder, or an earlier demo", "name another folder")
    write_atomic(folder / BEGUN, b"drawn by skinkit demo\n")
    sources = folder / "sources"
    context.console.info(f"drawing {config.lesions} phantom lesions and two smaller cohorts into {sources}")
    rows = write_cohort(sources / "phantoms", Hospital("D"), config.lesions, seed=config.seed)
    _write_table(sources / "phantoms", rows, _ENGLISH)
    shifted = Hospital("J", gain=(0.9, 0.96, 1.12), gamma=1.12, noise=5.0, vignette=0.3)
    rows = write_cohort(sources / "jinan", shifted, max(30, config.lesions // 3), seed=config.seed + 1)
    _write_table(sources / "jinan", rows, _CHINESE)
    rows = write_cohort(sources / "walk_in", Hospital("W"), 8, seed=config.seed + 2, masks=False)
    _write_table(sources / "walk_in", rows, _UNLABELLED)
    cohorts: list[dict[str, Any]] = [
        {"name": name, "role": role, "source": "folder", "path": f"sources/{name}", "phantom": True}
        for name, role in (("phantoms", "development"), ("jinan", "external"), ("walk_in", "inference"))
    ]
    defaults: Mapping[str, Any] = _TABLES
    settings: Mapping[str, Mapping[str, Any]] = {**DECLARED, **_PHANTOMS}
    if networks_installed() and not config.tables:
        defaults, settings = _NETWORKS, {**settings, **_SETTINGS}
    elif not config.tables:
        context.console.info("PyTorch is not installed: Otsu's threshold, radiomics and LightGBM alone")
    text = settings_text(defaults, cohorts, settings)
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
    (folder / DRAWN).write_text("drawn by skinkit demo\n", encoding="utf-8")


@dataclass(frozen=True)
class _Dialect:
    """The format of one hospital's table.

    Attributes:
        file: name of the table.
        title: of the hospital.
        remark: first line of its cohort.toml.
        header: our column -> the hospital's column.
        words: our column -> our value -> the hospital's value.
        encoding: of the table; written to cohort.toml unless it is UTF-8.
        masks: whether it has truth masks.
        values: last lines of its cohort.toml.
    """

    file: str
    title: str
    remark: str
    header: Mapping[str, str]
    words: Mapping[str, Mapping[Any, str]]
    encoding: str = "utf-8"
    masks: bool = True
    values: str = ""

    def toml(self) -> str:
        """The cohort.toml that reads the table."""
        lines = [f"# {self.remark}", f'title = "{self.title}"', f'file = "{self.file}"']
        lines += [f'encoding = "{self.encoding}"'] if self.encoding != "utf-8" else []
        lines += ['modality = "clinical"', *(['masks = "masks/{stem}.png"'] if self.masks else [])]
        columns = [f'{_CANONICAL.get(ours, ours)} = "{theirs}"' for ours, theirs in self.header.items()]
        return "\n".join([*lines, "", "[columns]", *columns, ""]) + self.values


_CANONICAL = {"file": "image", "patient": "patient_id", "lesion": "lesion_id", "region": "site"}
"""Column of a phantom -> column of the cases, where they differ."""


def _write_table(folder: Path, rows: Sequence[Mapping[str, Any]], dialect: _Dialect) -> None:
    with (folder / dialect.file).open("w", encoding=dialect.encoding, newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(dialect.header.values())
        for row in rows:
            writer.writerow([dialect.words.get(name, {}).get(row[name], row[name]) for name in dialect.header])
    (folder / DESCRIPTION).write_text(dialect.toml(), encoding="utf-8")


_YES_NO = {True: "yes", False: "no"}
_ENGLISH = _Dialect(
    "lesions.csv",
    "Drawn phantom lesions",
    "A hospital in one file: which table, which columns, what its words mean.",
    {
        "file": "photo", "patient": "patient", "lesion": "lesion", "diagnosis": "diagnosis", "age_years": "age",
        "sex": "sex", "region": "region", "bleed": "bleeding", "grew": "grown", "itch": "itching",
    },
    {"bleed": _YES_NO, "grew": _YES_NO, "itch": _YES_NO},
)  # fmt: skip
_UNLABELLED = replace(
    _ENGLISH,
    header={ours: theirs for ours, theirs in _ENGLISH.header.items() if ours != "diagnosis"},
    masks=False,
)
_YES_NO_ZH = {True: "是", False: "否"}
_DIAGNOSES_ZH = {
    "actinic_keratosis": "日光性角化病",
    "basal_cell_carcinoma": "基底细胞癌",
    "melanoma": "黑色素瘤",
    "nevus": "色素痣",
    "squamous_cell_carcinoma": "鳞状细胞癌",
    "seborrheic_keratosis": "脂溢性角化病",
}
_SITES_ZH = {
    "face": "面部", "neck": "颈部", "back": "背部", "chest": "胸部", "forearm": "前臂", "hand": "手部", "thigh": "大腿",
    "foot": "足部",
}  # fmt: skip
_CHINESE = _Dialect(
    "病例.csv",
    "Drawn phantom lesions of a second hospital",
    "The same in Chinese: the table keeps its own encoding, headers and words.",
    {
        "file": "照片", "patient": "患者编号", "lesion": "皮损编号", "diagnosis": "诊断", "age_years": "年龄",
        "sex": "性别", "region": "部位", "bleed": "出血", "grew": "增大", "itch": "瘙痒",
    },
    {
        "sex": {"female": "女", "male": "男"}, "diagnosis": _DIAGNOSES_ZH, "region": _SITES_ZH, "bleed": _YES_NO_ZH,
        "grew": _YES_NO_ZH, "itch": _YES_NO_ZH,
    },
    encoding="gb18030",
    values="""
# Words skinkit does not know by itself are mapped here; common ones (女, 面部, 色素痣, 是) need no entry.
[values.diagnosis]
"日光性角化病" = "actinic_keratosis"
"脂溢性角化病" = "seborrheic_keratosis"
""",
)  # fmt: skip
