"""localise: measure whether heatmaps lie on the lesion.

Draws photos with a person's outline that the network has not learnt from and paints Grad-CAM of the class that it
finds most probable, one map for each of its encoders. Per map: share of its energy inside the outline, whether it is
strongest there (pointing game), and IoU of what exceeds half of its maximum. Beside it a uniform map, a centred ellipse
of the outline's area, and the same network with shuffled weights, whose map must be another one. --against NAME
measures a second network, such as one that sees the photo alone, on the same photos. Figures have 95 % intervals over
patients. Files are written to 'localise/<cohort>' of the workspace: JSON, Parquet, a figure and a contact sheet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.commands import MODEL_STUDY, Context, _test_access
from skinkit.commands._output import folder_of, write_study
from skinkit.commands._sampled_cases import fused_of_predicted, predicted_photos, sample, with_photos
from skinkit.errors import CaseError, ConfigError, InputError, listed
from skinkit.options import ONE_MODEL_ARGUMENT, folder_for_files
from skinkit.schemas import Schema
from skinkit.workspace import Cohort, Ref, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.learning.trained import Classifier

PANEL = "Model study", 6
SHARED_OPTIONS = MODEL_STUDY

FOLDER = "localise"
SHUFFLED = "shuffled"
_TABLE = Schema("localisation", 1, ("case_id", "map"), ())
_SHOWN = 6
_VERDICTS = {
    True: "another map, as it must be",
    False: "ALIKE: the map says little of the model",
    None: "too few photos to tell whether it is another map",
}
_TRUTH = ["image_id", "truth_mask_path", "truth_mask_label", "truth_mask_polarity"]


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    model: Annotated[str, ONE_MODEL_ARGUMENT] = ""
    against: Annotated[str, "a second network, measured on the same photos"] = ""
    cases: Annotated[int, "number of random photos per cohort; 0: all"] = 200
    seed: Annotated[int, "seed of the photos and of the shuffled weights"] = 0
    ids: Annotated[bool, "print the image id beside each picture"] = False
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Measure the heatmaps on every labelled cohort with outlines."""
    from skinkit.learning import precision, trained

    if config.cases < 0:
        raise ConfigError(f"--cases {config.cases}", "0 or more", "correct the value")
    workspace = context.workspace()
    names = list(dict.fromkeys([config.model or workspace.defaults["model"], *filter(None, [config.against])]))
    pipeline, device = context.pipeline(workspace), precision.pick_device(context.device)
    cohorts = context.labelled(workspace)
    networks = []
    for name in names:
        model = trained.open_classifier(pipeline.bring(Ref("models", name=name)), name)
        _refuse_without_maps(model)
        networks.append(_NetworkAndTwin(model, device, workspace, config.seed))
    predicted = {
        (name, cohort): pipeline.bring(Ref("predictions", cohort, name)) for name in names for cohort in cohorts
    }
    answers = {}
    for cohort in cohorts:
        by_network = [predicted[name, cohort] for name in names]
        rows = _outlined(by_network, workspace, cohort)
        if len(rows):
            answers[cohort] = _measured(config, context, workspace, networks, cohort, by_network, rows)
            for artifact in by_network:
                _test_access.used(workspace, FOLDER, cohort, artifact, config)
    if not answers:
        raise InputError(
            f"no photo of {listed(cohorts)} that {' and '.join(names)} predicted has a person's outline",
            "a cohort with truth masks",
            "name one with --cohort, or add masks to its folder and run 'skinkit ingest'",
        )
    texts = [answer.pop("text") for answer in answers.values()]
    return {"models": names, "localisation": answers, "text": "\n\n".join(texts)}


def _refuse_without_maps(model: Classifier) -> None:
    from skinkit.data.views import IMAGE

    if not model.is_network or IMAGE not in model.model_class.READS:
        raise ConfigError(
            f"{model.name}, which is no network that reads the primary photo",
            "a network that reads 'image', such as dual_network, concat or derma_calibra",
            "name another model; 'skinkit explain' measures the heatmaps of this one inside the predicted mask",
        )


class _NetworkAndTwin:
    """A trained network and its twin with shuffled weights, which make heatmaps of cases."""

    def __init__(self, model: Classifier, device: str, workspace: Workspace, seed: int) -> None:
        from skinkit.stages.explain import CaseReader

        self.model, self._seed = model, seed
        self._reader = CaseReader(model, device, workspace.root)
        self._shuffled: dict[int, Any] = {}

    def maps(self, case: Mapping[str, Any], rgb: np.ndarray, root: Path, top: str) -> dict[str, dict[str, np.ndarray]]:
        """Name of a heatmap -> ``learnt`` and :data:`SHUFFLED`: (h, w), means over the case's folds."""
        import numpy as np

        from skinkit.explain.localisation import shuffled

        of_folds: list[dict[str, dict[str, np.ndarray]]] = []
        positive = np.array([code == top for code in self.model.classes.classes])
        for fold, network, batch, _ in self._reader.read(case, rgb, root):
            if fold.number not in self._shuffled:
                self._shuffled[fold.number] = shuffled(network, self._seed)
            both = {"learnt": network, SHUFFLED: self._shuffled[fold.number]}
            of_folds.append({how: _heat(each, batch, positive, fold.temperature) for how, each in both.items()})
        return {
            name: {how: np.mean([of[how][name] for of in of_folds], axis=0) for how in of_folds[0]}
            for name in of_folds[0]["learnt"]
        }


def _heat(network: Any, batch: Mapping[str, Any], positive: np.ndarray, temperature: float) -> dict[str, np.ndarray]:
    """Name of a heatmap -> Grad-CAM (h, w), of those that lie over the primary photo."""
    from skinkit.data.views import IMAGE
    from skinkit.explain.shapley import grad_cam, odds_of_photos, straightened

    module = odds_of_photos(network, batch, positive, temperature)
    return {
        "photo" if name == IMAGE else name: straightened(grad_cam(module, layer, batch[IMAGE]))
        for name, (photo, layer) in network.heat_layers().items()
        if photo == IMAGE
    }


def _outlined(predictions: Sequence[Artifact], workspace: Workspace, cohort: str) -> pd.DataFrame:
    """Photos with an outline that every network predicted: ``case_id``, ``image_id`` and how the outline is read."""
    tables = [predicted_photos(artifact) for artifact in predictions]
    shared = tables[0][["case_id", "image_id"]]
    for table in tables[1:]:
        shared = shared[shared["case_id"].isin(table["case_id"])]
    cases = open_artifact(workspace.path(Ref("cases", cohort))).table().reindex(columns=_TRUTH)
    return shared.merge(cases[cases["truth_mask_path"].notna()], on="image_id", validate="many_to_one")


def _measured(
    config: Config,
    context: Context,
    workspace: Workspace,
    networks: Sequence[_NetworkAndTwin],
    cohort: str,
    predictions: Sequence[Artifact],
    outlined: pd.DataFrame,
) -> dict[str, Any]:
    """One cohort: its table, figure, contact sheet and text."""
    import pandas as pd

    from skinkit.artifacts.tables import write_table
    from skinkit.explain.localisation import alike, by_chance, summarised
    from skinkit.figures.explanations import localisation_bars, localisation_sheet

    drawn = sample(outlined, config.cases, config.seed)
    of = workspace.cohort(cohort)
    by_network = []
    for network, artifact in zip(networks, predictions, strict=True):
        table = predicted_photos(artifact).set_index("case_id").loc[drawn["case_id"]].reset_index()
        cases = fused_of_predicted(table, artifact, workspace, cohort, network.model.name)
        by_network.append(list(zip(cases, table["top1"], strict=True)))
    truths = drawn.to_dict("records")
    rows: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    first = [case for case, _ in by_network[0]]
    for place, case, rgb in with_photos(first, of.root, context.console, f"heatmaps of {cohort}"):
        try:
            mask = _truth(truths[place], of, rgb)
        except CaseError:  # an outline that is lost, empty or unreadable; counted with the photos left out
            continue
        about = {"case_id": case["case_id"], "group_id": case["group_id"]}
        rows += [{**about, "map": name, "chance": True, **figures} for name, figures in by_chance(mask).items()]
        shown: dict[str, np.ndarray] = {}
        for network, of_network in zip(networks, by_network, strict=True):
            its_case, top = of_network[place]
            for row, heat in _of_case(network, its_case, top, rgb, mask, of.root):
                rows.append({**about, "class": top, **row})
                shown[row["map"]] = heat
        if len(pictures) < _SHOWN:
            pictures.append({"rgb": rgb, "truth": mask, "maps": shown, "text": case["image_id"] if config.ids else ""})
    if not rows:
        raise InputError(
            f"none of {len(drawn)} photos of {cohort} could be read with an outline that holds anything",
            "readable photos with truth masks",
            "see 'skinkit ingest' for what is wrong with them",
        )
    summary = summarised(rows)
    folder, stem = folder_of(config.out, workspace, FOLDER, cohort), "-".join(n.model.name for n in networks)
    files = localisation_bars(summary, folder, stem)
    files |= {f"sheet_{kind}": file for kind, file in localisation_sheet(pictures, folder, f"{stem}-photos").items()}
    write_table(folder / f"{stem}.parquet", _TABLE, pd.DataFrame(rows))
    n = len({row["case_id"] for row in rows})
    answer = {
        "n": n, "n_clusters": len({row["group_id"] for row in rows}), "failed": len(drawn) - n, "seed": config.seed,
        "summary": summary, "likeness": alike(rows), "figures": files,
    }  # fmt: skip
    text = f"{stem} on {cohort}, {n} photos of {answer['n_clusters']} patients\n{_text(answer)}"
    written = write_study(folder, stem, answer, text, files={**files, "parquet": str(folder / f"{stem}.parquet")})
    return {**written.body, "files": written.files, "text": written.text}


def _truth(row: Mapping[Any, Any], cohort: Cohort, rgb: np.ndarray) -> np.ndarray:
    """(h, w) the outline at the photo's size."""
    from skinkit.images.drawn_masks import DrawnMask
    from skinkit.images.mask_reading import Reading

    return DrawnMask(cohort.root / row["truth_mask_path"], Reading.of_case(row)).read((rgb.shape[1], rgb.shape[0]))


def _of_case(
    network: _NetworkAndTwin, case: Mapping[str, Any], top: str, rgb: np.ndarray, mask: np.ndarray, root: Path
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """A row of the table and the heatmap at the photo's size, for each heatmap of one network, learnt and shuffled."""
    from skinkit.explain.localisation import likeness, measured
    from skinkit.explain.shapley import enlarged

    for name, maps in network.maps(case, rgb, root, top).items():
        for how, small in maps.items():
            heat = enlarged(small, (rgb.shape[1], rgb.shape[0]))
            row: dict[str, Any] = {"map": f"{network.model.name}: {name}", "chance": False, **measured(heat, mask)}
            if how == SHUFFLED:
                row |= {"map": f"{row['map']}, {SHUFFLED}", "likeness": likeness(maps["learnt"], small)}
            yield row, heat


def _text(answer: Mapping[str, Any]) -> str:
    """A table for a terminal."""
    from skinkit.evaluation.markdown import with_interval
    from skinkit.explain.localisation import CHANCE, ELLIPSE, FIGURES
    from skinkit.stats.notes import TOO_FEW_PATIENTS, words_of

    def cell(row: Mapping[str, Any]) -> str:
        return with_interval(row) if row["n"] else "empty"

    def gap(row: Mapping[str, Any]) -> str:
        return with_interval(row["above"][ELLIPSE], signed=True, none=words_of(TOO_FEW_PATIENTS))

    by_map: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in answer["summary"]:
        by_map.setdefault(row["map"], {})[row["figure"]] = row
    wide = max(len(name) for name in by_map)
    lines = [f"  {'':{wide}}  " + "".join(f"{name:<24}" for name in FIGURES)]
    for name, figures in by_map.items():
        lines.append(f"  {name:{wide}}  " + "".join(f"{cell(figures[f]):<24}" for f in FIGURES))
    for name, figures in by_map.items():
        if name in CHANCE or name.endswith(SHUFFLED):
            continue
        if above := [f"{f} {gap(figures[f])}" for f in FIGURES if figures[f]["n"]]:
            lines.append(f"  {name} minus the centred ellipse: {'; '.join(above)}")
        if empty := figures["energy"]["empty"]:
            lines.append(f"  {name}: {empty} maps are empty (nothing speaks for the class), left out")
    for row in answer["likeness"]:
        empty = f"; for {row['empty']} photos one of the maps is empty" if row["empty"] else ""
        found = f"{row['estimate']:.2f}, {_VERDICTS[row['collapses']]}" if row["n"] else "not to be had"
        lines.append(f"  {row['map']}: rank correlation with the learnt map {found}{empty}")
    lines += [f"  {answer['failed']} photos left out: unreadable, or an empty outline"] if answer["failed"] else []
    return "\n".join(lines)
