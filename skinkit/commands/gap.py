"""gap: measure what is lost between dermoscopic and clinical photos.

Two development cohorts on one split: --dermoscopic and --clinical. A frozen backbone encodes all photos once; arms are
regressions on its features: FullDermoscopic, FullClinical, FineClinic (drawn from dermoscopic photos towards 30 % of
the clinical patients), both together, and as many dermoscopic cases as clinical ones. With --model KIND arms are
networks of that kind, fine-tuned on the photos; those that exist are reused. Written are their scores on held-out cases
of both sides, the gap G, transfer gain and cost with 95 % intervals over patients; distances of the domains, before and
after both have the same resolution and JPEG; how much of the gap goes with light, blur, hue, tone, frame, size and area
of the lesion (Shapley shares); a learning curve; and the photos of each domain that are nearest to and farthest from
the other. Only classes of both cohorts count. Files are written to 'gap' of the workspace, or to --out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.commands import Context, _test_access
from skinkit.commands._output import folder_of, write_study
from skinkit.commands._sampled_cases import numbers_of
from skinkit.commands._trainings import settings_for, weights_for
from skinkit.commands.continual import refuse_no_network
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.evaluation.markdown import markdown_table, with_interval
from skinkit.models.parts.protocol import Frozen, SidePx
from skinkit.models.parts.weights import LITE
from skinkit.options import Help, folder_for_files
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import numpy as np

    from skinkit.evaluation.gap import Gap
    from skinkit.learning.examples import Photo
    from skinkit.pipeline import Pipeline
    from skinkit.taxonomy import ClassSet

PANEL = "Model study", 11
SHARED_OPTIONS = ("workspace", "jobs", "device", "no_upstream")

FOLDER = "gap"
TUNED = (
    "FullDermoscopic", "FullClinical", "EqualDermoscopic", "Clinical30", "FineClinic", "FineFull", "FineHead", "Joint",
    "JointBalanced", "ClinicalWays",
)  # fmt: skip
"""FineHead trains the head alone on clinical photos, JointBalanced draws both cohorts equally often, ClinicalWays shows
half of the clinical photos as other ways of taking them would (``learning.meta_domains``)."""
_SAME_SIZE, _SAME_QUALITY = (200, 150), 90
"""Of equalised photos: the box they fit in, and the JPEG quality."""
_SHOWN = 6
_FEWEST = 5
"""Held-out cases of a class, on either side, without which it is left out."""


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    dermoscopic: Annotated[str, Help("development cohort of dermoscopic photos", metavar="NAME")] = ""
    clinical: Annotated[str, Help("development cohort of clinical photos", metavar="NAME")] = ""
    backbone: Frozen = LITE
    side_px: SidePx = 224
    weights: Annotated[str, weights_for("the frozen network")] = ""
    split: Annotated[str, "name of the split (default: the workspace's); its first fold is used"] = ""
    cases: Annotated[int, Help("cases of each cohort, drawn at random by patient; 0 for all", former="most")] = 0
    shares: Annotated[str, Help("shares of the clinical patients in the learning curve, with commas",
                                metavar="S[,S]")] = "0.05,0.1,0.25,0.5,1"  # fmt: skip
    seeds: Annotated[int, "draws of each share"] = 3
    equalise: Annotated[bool, "also with the same resolution and JPEG in both cohorts"] = True
    model: Annotated[
        str, Help("kind of network that is fine-tuned in each arm, in place of the regressions", metavar="KIND")
    ] = ""
    arms: Annotated[tuple[str, ...], f"arms of --model: {', '.join(TUNED)} (default: all)"] = ()
    preset: Annotated[str, "preset of the network of --model, such as quick"] = ""
    settings: Annotated[tuple[str, ...], settings_for("the network of --model")] = ()
    tuned_weights: Annotated[str, weights_for("the network of --model")] = ""
    seed: Annotated[int, "seed of all that is drawn"] = 0
    out: Annotated[str, folder_for_files(FOLDER)] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Measure the gap."""
    workspace = context.workspace()
    names = _cohorts(config, workspace)
    shares = _shares(config)
    pipeline = context.pipeline(workspace)
    split = config.split or workspace.defaults["split"]

    def ready(ref: Ref) -> Artifact:
        return pipeline.bring(ref) if context.upstream else open_artifact(workspace.path(ref))

    cases = {name: ready(Ref("cases", name)) for name in names}
    divided = ready(Ref("split", name=split))
    classes, rows = _rows(config, workspace, cases, divided, names)
    backbone = _FrozenBackbone(config, context, workspace)
    seen = {name: backbone.features(_photos(name, of, workspace)) for name, of in rows.items()}
    rows, features = _of_shared_classes(classes, rows, seen)
    measured = {"as they are": _gap(config, context, workspace, rows, classes, features)}
    gap = measured["as they are"]
    tuned = _tuned(config, pipeline, split, rows, gap) if config.model else {}
    if config.equalise:
        same = {
            name: backbone.features([_Equalised(photo) for photo in _photos(name, of, workspace)])[0]
            for name, of in rows.items()
        }
        measured["equalised"] = _gap(config, context, workspace, rows, classes, same, properties=False)
    context.console.info("  arms, learning curve, distances and properties")
    said = tuned or gap.said()
    same_arms = measured["equalised"].said(()) if config.equalise and not tuned else {}
    answer: dict[str, Any] = {
        "dermoscopic": names[0],
        "clinical": names[1],
        "backbone": config.backbone,
        "model": config.model or None,
        "preset": config.preset or None,
        "settings": list(config.settings),
        "classes": list(gap.classes),
        "n": {d.name: {"train": int(d.trained.sum()), "held_out": int((~d.trained).sum())} for d in (gap.d, gap.c)},
        **gap.table(said),
        "equalised": measured["equalised"].table(same_arms) if same_arms else None,
        "curve": [] if tuned else gap.curve(shares, range(config.seed, config.seed + config.seeds)),
        "factors": gap.factors(said["FullDermoscopic"]),
    }
    if tuned:
        answer["curve"] = _two_points(answer, config.seed)
    distances = {label: of.distances() for label, of in measured.items()}
    odds = distances["as they are"]["log_odds"]
    answer["distances"] = {label: {k: v for k, v in of.items() if k != "log_odds"} for label, of in distances.items()}
    for name, of in rows.items():
        held = of.loc[~of["trained"], ["case_id", "class"]]
        _test_access.of_cases(workspace, FOLDER, name, held, config, model=config.model or config.backbone)
    folder = folder_of(config.out, workspace, FOLDER)
    files = _figures(answer, rows, odds, workspace, folder)
    text = text_of(answer)
    page = _page(answer, text, files)
    written = write_study(folder, FOLDER, answer, text, page=page, files=files)
    return {**written.body, "files": written.files, "text": written.text}


def _cohorts(config: Config, workspace: Workspace) -> tuple[str, str]:
    known = workspace.with_role("development")
    for option, name in (("--dermoscopic", config.dermoscopic), ("--clinical", config.clinical)):
        if name not in known:
            raise ConfigError(
                f"{option} {name!r} is no development cohort",
                did_you_mean(name, known) if name and known else "two development cohorts on one split",
                "name cohorts of skinkit.toml with the role development",
            )
    if config.dermoscopic == config.clinical:
        raise ConfigError(f"both are {config.clinical}", "two cohorts", "name another")
    if config.cases < 0 or config.seeds < 1:
        raise ConfigError(f"--cases {config.cases}, --seeds {config.seeds}", "0 or more, and 1 or more", "correct them")
    return config.dermoscopic, config.clinical


def _tuned(
    config: Config, pipeline: Pipeline, split: str, rows: Mapping[str, Any], gap: Gap
) -> dict[str, dict[str, np.ndarray]]:
    """Arm -> domain -> (n, K) what fine-tuned networks say of held-out cases, of the shared classes alone."""
    said = {}
    for arm, options in planned(config, split, rows).items():
        name = f"{FOLDER}-{config.model}-{arm}"
        pipeline.make("train", options, name=name)
        for cohort in rows:
            pipeline.make("predict", {}, cohorts=[cohort], name=name)
        said[arm] = {
            cohort: _predicted(pipeline.workspace, cohort, name, of.loc[~of["trained"], "case_id"], gap.classes)
            for cohort, of in rows.items()
        }
    return said


def _two_points(answer: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """The learning curve, of the arms that learnt from a share of the clinical patients and from all of them."""
    from skinkit.evaluation.altered import BALANCED
    from skinkit.evaluation.gap import SHARE

    ends = {"Clinical30": ("Clinical30", "FullClinical"), "FineClinic": ("FineClinic", "FineFull")}
    values = {
        arm: row["estimate"]
        for arm, of in answer["arms"].items()
        for row in of[answer["clinical"]]
        if row["metric"] == BALANCED
    }
    return [
        {"arm": curve, "share": share, "seed": seed, "value": values[arm]}
        for curve, arms in ends.items()
        for share, arm in zip((SHARE, 1.0), arms, strict=True)
        if arm in values
    ]


def planned(config: Config, split: str, rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Arm -> its options of ``skinkit train``, each after that which it starts from.

    Raises:
        ConfigError: an unknown arm, or a model that is no network that classifies.
    """
    from skinkit.evaluation.gap import SHARE, WHOLE

    for arm in config.arms:
        if arm not in TUNED:
            raise ConfigError(f"--arms {arm}", did_you_mean(arm, TUNED), "name arms with commas")
    refuse_no_network(config.model)
    d, c = rows
    n = {name: int(of["trained"].sum()) for name, of in rows.items()}
    first = {"weights": f"model:{FOLDER}-{config.model}-FullDermoscopic"}
    of_arm: dict[str, dict[str, Any]] = {
        "FullDermoscopic": {"cohorts": (d,)},
        "FullClinical": {"cohorts": (c,)},
        "EqualDermoscopic": {"cohorts": (d,), "share": min(1.0, n[c] / n[d])},
        "Clinical30": {"cohorts": (c,), "share": SHARE},
        "FineClinic": {"cohorts": (c,), "share": SHARE, **first},
        "FineFull": {"cohorts": (c,), **first},
        "FineHead": {"cohorts": (c,), **first, "settings": ("recipe.frozen_stages=4", "recipe.cached_views=0")},
        "Joint": {"cohorts": (d, c)},
        "JointBalanced": {"cohorts": (d, c), "settings": ("recipe.balanced=1", "recipe.balanced_by=cohort")},
        "ClinicalWays": {"cohorts": (c,), "settings": ("augment.meta_domains=all", "augment.meta_share=0.5")},
    }
    shared = {
        "model": config.model, "preset": config.preset, "attributes": "none", "radiomics": "none", "split": split,
        "seed": config.seed, "weights": config.tuned_weights,
    }  # fmt: skip
    return {
        arm: {**shared, **of_arm[arm], "settings": (*config.settings, *of_arm[arm].get("settings", ()))}
        for arm in TUNED
        if arm in {*(config.arms or TUNED), *WHOLE}
    }


def _predicted(workspace: Workspace, cohort: str, model: str, cases: Any, classes: Sequence[str]) -> np.ndarray:
    """(n, K) probabilities of these classes, which sum to 1.

    Raises:
        InputError: it could not say anything of a case.
    """
    import numpy as np

    from skinkit.schemas import IMAGE, OK

    columns = [f"p__diagnosis__{code}" for code in classes]
    table = open_artifact(workspace.path(Ref("predictions", cohort, model))).table()
    table = table[(table["level"] == IMAGE) & (table["status"] == OK)].set_index("case_id")
    if lost := sorted(set(cases) - set(table.index)):
        raise InputError(
            f"{model} has no answer for {len(lost)} held-out cases of {cohort}: {listed(lost)}",
            "an answer for every held-out case whose photo can be read",
            f"see 'skinkit show {cohort}/predictions/{model}'",
        )
    chosen = table.loc[list(cases), columns].to_numpy(dtype=np.float64)
    out: np.ndarray = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-300)
    return out


def _shares(config: Config) -> list[float]:
    values = numbers_of(config.shares)
    if not values:
        raise ConfigError(f"--shares {config.shares}", "numbers above 0 and at most 1, with commas", "0.1,0.5,1")
    return values


def _rows(
    config: Config, workspace: Workspace, cases: Mapping[str, Artifact], split: Artifact, names: Sequence[str]
) -> tuple[ClassSet, dict[str, Any]]:
    """The class set, and cohort -> its cases of shared classes with ``trained``: whether a case may be learnt from."""
    import numpy as np
    import pandas as pd

    from skinkit.learning.rows import diagnosed
    from skinkit.taxonomy import class_set

    classes = class_set(workspace.defaults["classes"], workspace.defaults["malignant"], workspace.root)
    rows = diagnosed(cases, split, classes)
    first = rows.folds[0]
    held = set(rows.part(first, "held_out").tolist())
    learnt = {*rows.part(first, "train").tolist(), *rows.part(first, "validation").tolist()}
    frame = rows.frame.assign(trained=[n in learnt for n in range(len(rows.frame))])
    frame = frame[[n in held or n in learnt for n in range(len(frame))]]
    if config.cases:
        kept = []
        for _, of in frame.groupby("cohort"):
            patients = np.random.default_rng(config.seed).permutation(of["group_id"].unique())
            counted = of["group_id"].value_counts().loc[patients].cumsum()
            kept.append(of[of["group_id"].isin(patients[: max(1, int((counted <= config.cases).sum()))])])
        frame = pd.concat(kept)
    return classes, {name: frame[frame["cohort"] == name].reset_index(drop=True) for name in names}


def _photos(name: str, frame: Any, workspace: Workspace) -> list[Any]:
    from skinkit.learning.examples import photos_of

    return list(photos_of(frame, workspace.cohort(name).root))


def _of_shared_classes(
    classes: ClassSet, rows: Mapping[str, Any], seen: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Cohort -> its readable cases of classes that both cohorts have, and what the backbone sees of them.

    Raises:
        InputError: no such photo, or fewer than two such classes.
    """
    readable = {name: of[seen[name][1]].reset_index(drop=True) for name, of in rows.items()}
    for name, of in readable.items():
        if not len(of):
            raise InputError(
                f"none of {len(rows[name])} photos of {name} can be read", "photos", "run 'skinkit ingest' for reasons"
            )
    shared = [
        code
        for code in classes.classes
        if all((of.loc[of["trained"], "class"] == code).any() for of in readable.values())
        and all((of.loc[~of["trained"], "class"] == code).sum() >= _FEWEST for of in readable.values())
    ]
    if len(shared) < 2:
        raise InputError(
            f"{' and '.join(rows)} share {listed(shared)} of {classes.name}, with cases to learn from and {_FEWEST} "
            "held out",
            "two classes that both cohorts have",
            "choose another class set in skinkit.toml (classes), or a split that holds cases out",
        )
    kept = {name: of["class"].isin(shared).to_numpy() for name, of in readable.items()}
    return (
        {name: of[kept[name]].reset_index(drop=True) for name, of in readable.items()},
        {name: seen[name][0][kept[name]] for name in readable},
    )


class _FrozenBackbone:
    """A frozen network that looks at photos; what it says is remembered."""

    def __init__(self, config: Config, context: Context, workspace: Workspace) -> None:
        from skinkit.artifacts.files import file_sha256
        from skinkit.learning.precision import pick_device
        from skinkit.models import model_config, trainable
        from skinkit.models.parts.weights import locate, read_state

        model: Any = trainable("frozen_probe")
        self.model = model
        self.config = model_config(self.model, [f"backbone={config.backbone}", f"side_px={config.side_px}"])
        file = locate(config.weights, config.backbone)
        self.device, self.console, self.root = pick_device(context.device), context.console, workspace.root
        self.sha256 = file_sha256(file)
        network: Any = self.model.embedder(self.config, read_state(file), str(file))
        self.network = network.to(self.device)

    def features(self, photos: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """(readable, width) of the photos, and (n,) which are readable."""
        import numpy as np

        from skinkit.learning.embeddings import embed, embedding_store

        store = embedding_store(self.root, self.model, self.config, self.sha256, self.device)
        vectors, failed = embed(self.network, photos, store, device=self.device, console=self.console)
        readable = np.array([photo.pixel_sha256 not in failed for photo in photos], dtype=bool)
        rows = [vectors[photo.pixel_sha256] for photo in photos if photo.pixel_sha256 in vectors]
        return np.array(rows, dtype=np.float64), readable


@dataclass(frozen=True)
class _Equalised:
    """A photo in the resolution and JPEG that all photos have."""

    photo: Photo

    @property
    def pixel_sha256(self) -> str:
        """Not that of the photo itself, so that both are remembered apart."""
        from skinkit.artifacts.files import digest

        return digest(["equalised", *_SAME_SIZE, _SAME_QUALITY, self.photo.pixel_sha256])

    def read(self) -> np.ndarray:
        """uint8 (H, W, 3)."""
        import numpy as np
        from PIL import Image

        image = Image.fromarray(self.photo.read())
        image.thumbnail(_SAME_SIZE if image.width >= image.height else _SAME_SIZE[::-1], Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_SAME_QUALITY)
        return np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))


def _gap(
    config: Config,
    context: Context,
    workspace: Workspace,
    rows: Mapping[str, Any],
    classes: ClassSet,
    features: Mapping[str, np.ndarray],
    *,
    properties: bool = True,
) -> Gap:
    """Both domains as the backbone sees them, with the properties of their photos where these are asked for."""
    import numpy as np

    from skinkit.audit.photo_factors import AREA, factors_of
    from skinkit.evaluation.gap import Domain, Gap, standardised

    shared = tuple(code for code in classes.classes if all((of["class"] == code).any() for of in rows.values()))
    both = []
    for name, of in rows.items():
        factors: dict[str, np.ndarray] = {}
        if properties:
            table = factors_of(of, workspace.cohort(name).root, jobs=context.jobs, console=context.console)
            factors = {str(column): table[column].to_numpy() for column in table}
            factors[AREA] = _areas(name, workspace).reindex(of["image_id"]).to_numpy(dtype=np.float64)
        labels = np.array([shared.index(code) for code in of["class"]], dtype=np.int64)
        groups, trained = of["group_id"].to_numpy(dtype=str), of["trained"].to_numpy(dtype=bool)
        both.append(Domain(name, features[name], labels, groups, trained, factors))
    d, c = standardised(*both)
    malignant = np.array([code in classes.malignant for code in shared])
    return Gap(d, c, shared, malignant, config.seed)


def _areas(name: str, workspace: Workspace) -> Any:
    """``image_id`` -> share of the photo that is lesion by the workspace's segmenter; empty before it has drawn."""
    import pandas as pd

    path = workspace.path(Ref("masks", name, workspace.defaults["segmenter"]))
    if not exists(path):
        return pd.Series(dtype="float64")
    return open_artifact(path).table(["image_id", "area_share"]).set_index("image_id")["area_share"]


# ------------------------------------------------------------------------------------------------------- the page
_SHOWN_FIGURES = ("balanced_accuracy", "macro_auroc", "malignant_auroc")


def text_of(answer: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    from skinkit.evaluation.altered import BALANCED, FIGURES

    d, c = answer["dermoscopic"], answer["clinical"]
    parts = ["## What each arm reaches"]
    for figure in _SHOWN_FIGURES:
        words, rows = FIGURES[figure], []
        for arm, of in answer["arms"].items():
            by = {name: {row["metric"]: row for row in of[name]} for name in (d, c)}
            if figure in by[d] and figure in by[c]:
                gap = with_interval(answer["gap"][arm][figure], signed=True)
                rows.append([arm, with_interval(by[d][figure]), with_interval(by[c][figure]), gap])
        if rows:
            parts.append(markdown_table(["arm", f"{words} on {d}", f"on {c}", "gap G"], rows))
    parts.append("## What is gained and lost by learning from both")
    rows = []
    for arm, of in answer["arms"].items():
        cells = []
        for name, alone in ((c, "FullClinical"), (d, "FullDermoscopic")):
            row = next(row for row in of[name] if row["metric"] == BALANCED)
            ends = {"difference": row["difference"], "lower": row["difference_lower"], "upper": row["difference_upper"]}
            cells.append("-" if arm == alone else with_interval(ends, "difference", signed=True))
        rows.append([arm, *cells])
    titles = ["arm", f"transfer gain on {c}, balanced accuracy", f"change on {d} (cost, with its sign turned)"]
    parts.append(markdown_table(titles, rows))
    if answer["equalised"]:
        rows = [
            [arm, with_interval(answer["gap"][arm][BALANCED], signed=True), with_interval(of[BALANCED], signed=True)]
            for arm, of in answer["equalised"]["gap"].items()
        ]
        parts.append(markdown_table(["arm", "gap G, balanced accuracy", "with equal resolution and JPEG"], rows))
    parts.append("## How far apart the photos are")
    rows = [
        [label, *(f"{of[name]:.3f}" for name in ("frechet", "mmd2", "proxy_a_distance", "domain_accuracy"))]
        for label, of in answer["distances"].items()
    ]
    names = ["photos", "Frechet distance", "MMD^2", "proxy A-distance (-2 to 2)", "domains told apart (accuracy)"]
    parts.append(markdown_table(names, rows))
    parts.append("## What the gap goes with")
    found = answer["factors"]
    rows = [
        [name, f"{found['alone'][name]:+.3f}", f"{share:+.3f}"]
        for name, share in sorted(found["shares"].items(), key=lambda item: -abs(item[1]))
    ]
    parts.append(markdown_table(["property", "gap lost when it alone is matched", "Shapley share"], rows))
    if found["gap"] is None:
        parts.append(
            f"Too few cases ({found['n'][0]} and {found['n'][1]}) have all properties to say what the gap goes with."
        )
    else:
        parts.append(
            f"Gap of FullDermoscopic {found['gap']:+.3f}; with all properties matched {found['matched']:+.3f}, which "
            f"rests on {found['effective']:.0f} of {found['n'][0]} dermoscopic and {found['n'][1]} clinical cases. "
            "Shares are of this model on these cases and show no cause."
        )
    return "\n\n".join(parts)


def _figures(
    answer: Mapping[str, Any], rows: Mapping[str, Any], odds: Mapping[str, Any], workspace: Workspace, folder: Path
) -> dict[str, str]:
    """Learning curve and shares, and the contact sheet."""
    import numpy as np

    from skinkit.figures.gap import gap_figure, gap_sheet

    files = gap_figure(answer["curve"], answer["factors"]["shares"], folder, FOLDER)
    pictures = {}
    for name, sign in ((answer["dermoscopic"], 1), (answer["clinical"], -1)):
        order = np.argsort(-sign * np.asarray(odds[name]))
        photos = _photos(name, rows[name], workspace)
        other = answer["clinical"] if sign > 0 else answer["dermoscopic"]
        pictures[f"{name}, most like {other}"] = [photos[n].read() for n in order[:_SHOWN]]
        pictures[f"{name}, least like {other}"] = [photos[n].read() for n in order[-_SHOWN:]]
    return files | {f"sheet_{kind}": file for kind, file in gap_sheet(pictures, folder, f"{FOLDER}-sheet").items()}


def _page(answer: Mapping[str, Any], text: str, files: Mapping[str, str]) -> str:
    counts = ", ".join(
        f"{name}: {of['train']} to learn from, {of['held_out']} held out" for name, of in answer["n"].items()
    )
    tuned = " ".join(filter(None, (f"preset {answer['preset']}" if answer["preset"] else "", *answer["settings"])))
    how = f"{answer['backbone']}, not trained"
    if answer["model"]:
        how = f"arms: {answer['model']}, fine-tuned ({tuned or 'its own settings'}); distances: {how}"
    pictures = [f"![{words}]({Path(files[kind]).name})" for kind, words in _PICTURES.items() if kind in files]
    return (
        f"# {answer['dermoscopic']} and {answer['clinical']}: the gap between dermoscopic and clinical photos\n\n"
        f"{how}; classes {', '.join(answer['classes'])}; {counts}. Intervals: 95 %, over "
        f"patients.\n\n" + "\n\n".join(pictures) + f"\n\n{text}"
    )


_PICTURES = {"sheet_png": "photos nearest to and farthest from the other domain", "png": "learning curve and shares"}
