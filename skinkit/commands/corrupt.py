"""corrupt: measure what a model loses where photos are taken under other conditions.

The held-out development cases and the external cases are predicted again as ten ways of taking photos would show them
(hair, marks, frame, bubbles, colour, blur, compression, distance, shadow, skin_tone), each at three strengths; with
--artefacts FOLDER also with artefacts cut out of real images, whose source images are left out. Masks stay as they were
drawn, but for 'distance', which moves the lesion. Differences to the unchanged photos have paired 95 % intervals over
patients. Files are written to 'corrupt/<cohort>' of the workspace, or to --out: JSON, Parquet, a figure (SVG and PNG),
and a sheet of one photo in every way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import open_artifact
from skinkit.commands import MODEL_STUDY, Context, _test_access
from skinkit.commands._output import folder_of, write_study
from skinkit.commands._sampled_cases import numbers_of, sample, scored_cases
from skinkit.errors import CaseError, ConfigError, InputError, listed
from skinkit.options import MANY_MODELS, Help, folder_for_files
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.evaluation.altered import CasesWithTruth
    from skinkit.learning.meta_domains import Artefacts
    from skinkit.learning.scorer import Scorer
    from skinkit.learning.trained import Classifier

PANEL = "Model study", 4
SHARED_OPTIONS = MODEL_STUDY

FOLDER = "corrupt"
REAL = "real "
"""Before the kind of a real artefact, in the place of a meta-domain."""


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    models: Annotated[tuple[str, ...], MANY_MODELS] = ()
    domains: Annotated[str, Help("ways of taking photos, with commas (default: all)", metavar="NAME[,NAME]")] = "all"
    strengths: Annotated[str, Help("strengths from 0 to 1, with commas", metavar="S[,S]")] = "0.25,0.5,1"
    artefacts: Annotated[
        str, Help("folder of artefacts cut out of real images: NAME_with_N.png, NAME_without_N.png", metavar="FOLDER")
    ] = ""
    cases: Annotated[int, "photos of each cohort, drawn at random; 0 for all"] = 200
    seed: Annotated[int, "seed of the draw and of every photo's alterations"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


@dataclass(frozen=True)
class Way:
    """One way of taking photos.

    Attributes:
        domain: a meta-domain, or :data:`REAL` and the kind of a real artefact.
        strength: 0 to 1.
    """

    domain: str
    strength: float


@dataclass(frozen=True)
class _Altered:
    """The photos of some cases, altered and written where a scorer reads them.

    Attributes:
        root: of the cohort's photos.
        workspace: whose masks are read.
        folder: where altered photos and masks are written.
        seed: of the alterations.
        artefacts: real ones.
        jobs: threads.
    """

    root: Path
    workspace: Path
    folder: Path
    seed: int
    artefacts: Artefacts | None
    jobs: int

    def frame(self, frame: pd.DataFrame, way: Way) -> pd.DataFrame:
        """The fused rows of the altered photos, of every view."""
        from skinkit.data.views import IMAGE, NAMED, column

        parts: dict[str, list[Any]] = {}
        for view in ("", *(name.removeprefix(f"{IMAGE}_") for name in NAMED)):
            own = {column(view, name) if view else name: name for name in _WRITTEN}
            here = frame[[name for name in own if name in frame]].rename(columns=own)
            if "image_path" not in here:
                continue
            with ThreadPoolExecutor(self.jobs) as pool:
                work = partial(self._one, way=way, view=view)
                written = list(pool.map(work, range(len(here)), here.to_dict("records")))
            parts |= {where: [row[name] for row in written] for where, name in own.items() if name in here}
        return frame.assign(**parts)

    def _one(self, place: int, row: Mapping[str, Any], *, way: Way, view: str) -> dict[str, Any]:
        from skinkit.artifacts.files import file_sha256
        from skinkit.images.encode import png_bytes
        from skinkit.images.identity import pixel_sha256

        if not isinstance(row["image_path"], str):
            return dict(row)
        rgb, mask = self._read(row)
        seen, moved = altered(rgb, mask, way, [self.seed, place, len(view)], self.artefacts)
        file = self.folder / f"{place}{view}.png"
        file.write_bytes(png_bytes(seen))
        out = {**row, "image_path": file.name, "image_sha256": file_sha256(file), "pixel_sha256": pixel_sha256(seen)}
        if moved is not None and moved is not mask:
            import numpy as np

            mask_file = self.folder / f"mask{place}{view}.png"
            mask_file.write_bytes(png_bytes(moved.astype(np.uint8) * 255))
            out |= {"mask_path": str(mask_file), "mask_sha256": file_sha256(mask_file)}
            out |= {"mask_failed": not moved.any()}
        return out

    def _read(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
        import numpy as np

        from skinkit.images.decode import read_mask
        from skinkit.learning.examples import Photo

        rgb = Photo(row["pixel_sha256"], self.root / row["image_path"], str(row["image_sha256"] or "")).read()
        failed = row.get("mask_failed")
        drawn = isinstance(row.get("mask_path"), str) and isinstance(failed, (bool, np.bool_)) and not failed
        if not drawn:
            return rgb, None
        sha256 = row.get("mask_sha256")
        return rgb, read_mask(self.workspace / str(row["mask_path"]), sha256=sha256 if isinstance(sha256, str) else "")


_WRITTEN = ("image_path", "image_sha256", "pixel_sha256", "mask_path", "mask_sha256", "mask_failed")


def altered(
    rgb: np.ndarray, mask: np.ndarray | None, way: Way, seed: Sequence[int], artefacts: Artefacts | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """A photo (H, W, 3) and its lesion (H, W) taken in a way."""
    from skinkit.learning.meta_domains import shown_through

    if way.domain.startswith(REAL):
        assert artefacts is not None
        return artefacts.laid_on(rgb, way.domain.removeprefix(REAL), way.strength, seed), mask
    return shown_through(rgb, way.domain, way.strength, seed, mask)


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Alter the photos of every labelled cohort, for every model."""
    from skinkit.learning import precision, trained
    from skinkit.learning.meta_domains import Artefacts
    from skinkit.models.parts.protocol import named_meta_domains
    from skinkit.stages.predict import fused_of

    strengths = _strengths(config)
    real = Artefacts.of(Path(config.artefacts)) if config.artefacts else None
    domains = [*named_meta_domains(config.domains), *(f"{REAL}{kind}" for kind in (real.pairs if real else ()))]
    if not domains:
        raise ConfigError("no way of taking photos", "one or more of --domains", "leave --domains out for all")
    ways = [Way(domain, strength) for domain in domains for strength in strengths]
    workspace = context.workspace()
    pipeline = context.pipeline(workspace)
    answers: dict[str, dict[str, Any]] = {}
    texts = []
    for name in dict.fromkeys(config.models or (workspace.defaults["model"],)):
        model = trained.open_classifier(pipeline.bring(Ref("models", name=name)), name)
        _refuse_without_photos(model)
        device = precision.pick_device(context.device)
        for cohort in context.labelled(workspace):
            metrics = pipeline.bring(Ref("metrics", cohort, name))
            fused = open_artifact(workspace.path(Ref("fused", cohort, fused_of(name, workspace))))
            cases, frame = scored_cases(metrics, fused.table(), model)
            cases, frame, left_out = _drawn(config, cases, frame, real)
            _test_access.used(workspace, FOLDER, cohort, metrics, config, new=f"{FOLDER} {config}")
            found = _measured(config, context, workspace, model, device, cohort, cases, frame, ways, real)
            folder = folder_of(config.out, workspace, FOLDER, cohort)
            about = {
                "model": name,
                "model_identity": model.identity,
                "cohort": cohort,
                "malignant_set": model.classes.malignant_set,
                "strengths": strengths,
                "seed": config.seed,
                "left_out_as_sources_of_artefacts": left_out,
            }
            written = _written(folder, name, cohort, about, found)
            answers.setdefault(name, {})[cohort] = {**written.body, "files": written.files}
            texts.append(written.text)
    return {"corrupt": answers, "text": "\n\n".join(texts)}


def _strengths(config: Config) -> list[float]:
    values = numbers_of(config.strengths)
    if not values or config.cases < 0:
        raise ConfigError(
            f"--strengths {config.strengths}, --cases {config.cases}",
            "strengths above 0 and at most 1, with commas, and 0 or more cases",
            "leave --strengths out for 0.25,0.5,1",
        )
    return values


def _refuse_without_photos(model: Classifier) -> None:
    """Refuse a model that looks at no photo, and one that reads what was measured in it.

    Raises:
        InputError: one of these.
    """
    every = (model, *model.members)
    if measured := [one.name for one in every if any(fold.radiomics.columns for fold in one.folds)]:
        raise InputError(
            f"{listed(measured)} reads radiomic features, which are not measured again in altered photos",
            "a model that reads photos, and metadata",
            "name another model, or train this one with --radiomics none",
        )
    if not any(one.reads_photos or one.is_network for one in every):
        raise InputError(
            f"{model.name} looks at no photo, so that none can mislead it",
            "a model that reads photos",
            "name another model",
        )


def _drawn(
    config: Config, cases: CasesWithTruth, frame: pd.DataFrame, real: Artefacts | None
) -> tuple[CasesWithTruth, pd.DataFrame, int]:
    """A random sample of the cases, without those that artefacts were cut from, of which there were so many."""
    stems = frame["image_path"].map(lambda path: Path(str(path)).stem)
    sources = frame["image_id"].isin(real.sources) | stems.isin(real.sources) if real else stems.isna()
    drawn = sample(frame[~sources], config.cases, config.seed)
    if drawn.empty:
        raise InputError("no case is left: all are sources of the artefacts", "further cases", "leave --artefacts out")
    return cases.rows(drawn.index.to_numpy()), drawn.reset_index(drop=True), int(sources.sum())


@dataclass(frozen=True)
class _CorruptionResult:
    """What was measured: rows of the table, and the pictures of the sheet.

    Attributes:
        rows: domain, strength and the columns of ``evaluation.altered.CasesWithTruth.against``.
        sheet: way -> the first case's photo (H, W, 3).
    """

    rows: list[dict[str, Any]]
    sheet: Mapping[Way, np.ndarray]


def _measured(
    config: Config,
    context: Context,
    workspace: Workspace,
    model: Classifier,
    device: str,
    cohort: str,
    cases: CasesWithTruth,
    frame: pd.DataFrame,
    ways: Sequence[Way],
    real: Artefacts | None,
) -> _CorruptionResult:
    import tempfile

    from skinkit.console import Console
    from skinkit.evaluation.corruption import MEAN
    from skinkit.images.decode import decode
    from skinkit.learning.scorer import Scorer
    from skinkit.stats.intervals import LeaveOut

    root = workspace.cohort(cohort).root
    folds, _ = model.folds_for(frame, cohort)
    left_out = LeaveOut(cases.cluster, config.seed)
    sheet: dict[Way, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        # Answers about altered photos are not kept: the scorer's store lies in the scratch folder too.
        (scratch / "artifacts").symlink_to(workspace.artifacts, target_is_directory=True)
        scorer = Scorer(model, scratch, device, Console(quiet=True))
        source = _Altered(root, workspace.root, scratch, config.seed, real, max(1, context.jobs))
        try:
            whole = cases.figures(_probability(model, scorer, frame, folds, root), left_out)
            figures = {}
            with context.console.progress(len(ways), f"{model.name} on {cohort}: ways of taking photos") as tick:
                for way in ways:
                    seen = source.frame(frame, way)
                    sheet[way] = decode((scratch / str(seen["image_path"].iloc[0])).read_bytes())[0]
                    figures[way] = cases.figures(_probability(model, scorer, seen, folds, scratch), left_out)
                    tick()
        except CaseError as error:
            raise InputError(
                f"a photo that was scored can no longer be read ({error.reason})",
                "the photos of the predictions",
                "run 'skinkit ingest', then the same command again",
            ) from None
    rows = [
        {"domain": way.domain, "strength": way.strength, **row}
        for way, of_way in figures.items()
        for row in cases.against(whole, [of_way])
    ]
    drawn = [of_way for way, of_way in figures.items() if not way.domain.startswith(REAL)]
    means = [(MEAN, drawn)] if drawn else []
    means += [(f"{MEAN} of real artefacts", [f for way, f in figures.items() if way.domain.startswith(REAL)])]
    rows += [
        {"domain": label, "strength": 0.0, **row}
        for label, of_all in means
        if of_all
        for row in cases.against(whole, of_all)
    ]
    rows += [{"domain": "", "strength": 0.0, **row} for row in cases.against(whole, [whole])]
    return _CorruptionResult(rows, sheet)


def _probability(
    model: Classifier, scorer: Scorer, frame: pd.DataFrame, folds: Sequence[Sequence[int]], root: Path
) -> np.ndarray:
    """(n, classes) in use; raises :class:`CaseError` where a photo cannot be read."""
    import numpy as np

    from skinkit.learning.scorer import in_chunks

    parts, start = [], 0
    for part in in_chunks(frame):
        scored = scorer.scored(part, folds[start : start + len(part)], root)
        for error in scored.failed.values():
            raise error
        parts.append(model.finished(scored.probability))
        start += len(part)
    return np.concatenate(parts)


def _written(folder: Path, name: str, cohort: str, about: Mapping[str, Any], found: _CorruptionResult) -> Any:
    """Table, figure, sheet and text."""
    import pandas as pd

    from skinkit.artifacts.files import json_values
    from skinkit.artifacts.tables import write_table
    from skinkit.evaluation import corruption
    from skinkit.evaluation.altered import FIGURES
    from skinkit.figures.corruption import corruption_figure, corruption_sheet

    write_table(folder / f"{name}.parquet", corruption.TABLE, pd.DataFrame(json_values(found.rows)))
    figure = corruption.deciding_metric(found.rows)
    how = {"metric": figure, "words": FIGURES[figure], "mean": corruption.MEAN}
    files = {"parquet": str(folder / f"{name}.parquet"), **corruption_figure(found.rows, folder, name, **how)}
    shown = {(way.domain, way.strength): picture for way, picture in found.sheet.items()}
    files |= {f"sheet_{kind}": file for kind, file in corruption_sheet(shown, folder, f"{name}-sheet").items()}
    n = f"{found.rows[0]['n']} cases of {found.rows[0]['n_clusters']} patients or groups"
    text = f"{name} on {cohort}, {n}\n{corruption.text_of(found.rows)}"
    body = {**about, "verdict": corruption.verdict(found.rows), "rows": found.rows}
    return write_study(folder, name, body, text, files=files)
