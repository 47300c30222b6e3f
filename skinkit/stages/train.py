"""train: fused cases + split -> a model, fold by fold.

Everything that is fitted is fitted per fold and lies in the fold's folder: encoder and imputer, scalers, signature and
model on the training rows; calibration temperature and Youden thresholds on the validation rows. A model that needs no
validation rows to know when to stop is then fitted once more on both (--no-refit leaves that out). Held-out rows are
not looked at. An external cohort is later scored with that copy, never refitted. A killed run goes on at the next fold.

Models are frozen: one that exists is replaced by another configuration only with --replace.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit.artifact import Artifact, Builder, Recipe, digest, exists, file_sha256, link_or_copy, open_artifact
from skinkit.artifact import write_atomic as write
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.options import Help
from skinkit.schemas import MODEL, OK, TRAINED_ON
from skinkit.stages import Job, Sources
from skinkit.taxonomy import CLASS_SET_NAMES, ClassSet, class_set
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

VERSION = 1
SCHEMA = MODEL


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[str, "classifier: frozen_probe or lightgbm (default: the workspace's model)"] = ""
    weights: Annotated[
        str,
        Help(
            "pretrained weights: safetensors, a PyTorch state dict, or a name of 'skinkit weights list' (default: the "
            "model's own, where they were fetched)",
            identity=False,
            metavar="PATH",
        ),
    ] = ""
    settings: Annotated[
        tuple[str, ...], Help("a setting of the model as NAME=VALUE, repeatable", metavar="NAME=VALUE")
    ] = ()
    classes: Annotated[str, "class set: pad6, wang8, malignancy or a TOML file (default: the workspace's)"] = ""
    malignant: Annotated[str, "malignant set: pad or wang (default: the class set's own)"] = ""
    veto: Annotated[float, "malignancy at or above which a lesion is called malignant, 0 to 1"] = 0.3
    attributes: Annotated[
        Literal["auto", "pad81", "pad45", "isic", "none"],
        "encoder of the metadata; auto: pad81 where a development case has a PAD attribute, else isic",
    ] = "auto"
    radiomics: Annotated[
        Literal["auto", "none", "signature", "all"], "radiomic features the model reads; auto: the model's own choice"
    ] = "auto"
    split: Annotated[str, "name of the split (default: the workspace's)"] = ""
    fused: Annotated[str, "name of the fused tables (default: the workspace's segmenter)"] = ""
    folds: Annotated[int, Help("make sure that the split has this many folds", identity=False)] = 0
    refit: Annotated[
        bool,
        "after calibrating, fit once more on training and validation rows; for models that need no validation rows to "
        "know when to stop (frozen_probe)",
    ] = True
    seed: Annotated[int, "seed of the model"] = 0
    replace: Annotated[bool, Help("replace a model of this name that has another configuration", identity=False)] = (
        False
    )
    allow_leakage: Annotated[
        str, Help("reason for training on a split with a patient, lesion or image on both sides", metavar="REASON")
    ] = ""


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One model, learnt from all development cohorts."""
    name = name or config.model or workspace.defaults["model"]
    check_name(name, "name of the model")
    development = workspace.with_role("development")
    if cohorts and set(cohorts) != set(development):
        raise ConfigError(
            f"a model of {', '.join(cohorts)} alone",
            f"all development cohorts together: {', '.join(development) or 'there is none'}",
            "leave --cohort out, or change the roles in skinkit.toml",
        )
    return [Ref("models", name=name)] if development else []


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """Fill in what the workspace and the model decide. A model called after a registered one is that one."""
    from skinkit.models import load_model, registered

    known = registered("classify")
    model = config.model or (target.name if target.name in known else workspace.defaults["model"])
    module = load_model(model, task="classify")
    return replace(
        config,
        model=model,
        classes=config.classes or workspace.defaults["classes"],
        malignant=config.malignant or workspace.defaults["malignant"],
        radiomics=module.RADIOMICS if config.radiomics == "auto" else config.radiomics,
        split=config.split or workspace.defaults["split"],
        fused=config.fused or workspace.defaults["segmenter"],
    )


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The split, the fused table of every development cohort, and the signature where it is read."""
    split = Ref("split", name=config.split)
    _check_folds(config, split, workspace)
    inputs = {"split": split}
    inputs |= {f"fused/{cohort}": Ref("fused", cohort, config.fused) for cohort in workspace.with_role("development")}
    if config.radiomics == "signature":
        inputs["signature"] = Ref("signature", name=f"{config.split}/{config.fused}")
    return inputs


def _check_folds(config: Config, split: Ref, workspace: Workspace) -> None:
    """Refuse, before any work, a number of folds that the split has not."""
    path = workspace.path(split)
    recorded = open_artifact(path).info.get("folds", 1) if exists(path) else 1
    found = workspace.settings.get("split", {}).get("folds", recorded)
    if config.folds and config.folds != found:
        raise ConfigError(
            f"--folds {config.folds}, but the split {split.name!r} has {found}",
            "a split with as many folds",
            f"run 'skinkit split --folds {config.folds}' first (with --name NAME, and --split NAME here, for a second "
            "split)",
        )


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The class set, the model's settings with its defaults, and the pretrained weights, by content."""
    inputs = {"classes": digest(_classes(config, workspace).as_dict()), "settings": digest(_settings(config))}
    weights = _weights(config, workspace)
    if weights is not None:
        try:
            inputs["weights"] = file_sha256(weights())
        except InputError:
            # A model that is there has its weights inside; asking whether it is up to date needs no other copy.
            path = workspace.path(target)
            if config.weights or not exists(path):
                raise
            inputs["weights"] = str(open_artifact(path).json("model.json")["weights"]["sha256"])
    return Sources(inputs, watch="")


def guard(config: Config, artifact: Artifact, recipe: Recipe) -> None:
    """Refuse to replace a model of another configuration without --replace."""
    if config.replace:
        return
    old, new = artifact.recipe, recipe.as_dict()
    trained = artifact.json("model.json")["settings"]
    pairs = {name: (old["config"].get(name), value) for name, value in new["config"].items() if name != "settings"}
    if old["config"].get("model") == config.model:
        pairs |= {name: (trained.get(name), value) for name, value in _settings(config).items()}
    said = [f"{name} {had!r} instead of {value!r}" for name, (had, value) in pairs.items() if had != value]
    said += [f"other {key}" for key in ("weights", "classes") if old["inputs"].get(key) != new["inputs"].get(key)]
    if said:
        raise RefusedError(
            f"the model at {artifact.path} has another configuration ({'; '.join(said)})",
            "the same configuration, or a name that is free",
            "give --name NAME to keep both, or --replace to train it anew in its place",
        )


def _settings(config: Config) -> dict[str, Any]:
    """Every setting of the model, defaults too."""
    from skinkit.models import load_model, model_config

    return asdict(model_config(load_model(config.model, task="classify"), config.settings))


def _classes(config: Config, workspace: Workspace) -> ClassSet:
    name = config.classes
    if name not in CLASS_SET_NAMES and (workspace.root / name).is_file():
        name = str(workspace.root / name)
    return class_set(name, config.malignant)


def _weights(config: Config, workspace: Workspace) -> Any:
    """A function that finds the weights file, or None where the model reads none."""
    from skinkit import weights
    from skinkit.models import load_model, model_config

    module = load_model(config.model, task="classify")
    if not hasattr(module, "embedder"):
        if config.weights:
            raise ConfigError(
                f"--weights {config.weights} for {config.model}", "a model that reads weights", "leave --weights out"
            )
        return None
    default = module.default_weights(model_config(module, config.settings))
    # In skinkit.toml a path is meant from there, on the command line from where one stands.
    beside = workspace.root / config.weights
    given = (
        str(beside) if config.weights and beside.is_file() and not Path(config.weights).is_file() else config.weights
    )
    return lambda: weights.locate(given, default)


# ------------------------------------------------------------------------------------------------------ the work


@dataclass(frozen=True)
class Rows:
    """Everything the folds are made of.

    Attributes:
        frame: fused rows of the split's cases, readable ones with a class, one per (cohort, case_id).
        labels: (rows,) class indices.
        images: (rows, width) where the model reads photos.
        split: fold, part, and row: a position in ``frame``.
        encoder: name of the encoder.
        radiomics: names of the measured features.
        signature: fold -> its features, where the model reads a signature.
    """

    frame: pd.DataFrame
    labels: np.ndarray
    images: np.ndarray | None
    split: pd.DataFrame
    encoder: str
    radiomics: tuple[str, ...]
    signature: dict[int, tuple[str, ...]] | None

    def part(self, fold: int, name: str) -> np.ndarray:
        """Positions of one part of a fold."""
        chosen = self.split[(self.split["fold"] == fold) & (self.split["part"] == name)]
        return chosen["row"].to_numpy(dtype=int)

    def features(self, fold: int) -> tuple[str, ...]:
        """Radiomic features a fold reads."""
        return self.radiomics if self.signature is None else self.signature[fold]


def run(config: Config, job: Job) -> Artifact:
    """Train every fold."""
    from skinkit.models import load_model, model_config

    if not 0 <= config.veto <= 1:
        raise ConfigError(f"--veto {config.veto}", "a probability, 0 to 1", "0.3 is what Wang 2024 uses")
    module = load_model(config.model, task="classify")
    settings = model_config(module, config.settings)
    classes = _classes(config, job.workspace)
    frame, split, barred = _labelled(config, job, classes)
    with job.build() as build:
        images, weights = None, None
        if hasattr(module, "embedder"):
            images, readable, weights = _embedded(config, job, module, settings, frame, build.partial)
            barred |= _count_unreadable(readable)
            kept = (readable == OK).to_numpy()
            position = dict(zip(kept.nonzero()[0], range(int(kept.sum())), strict=True))
            frame = frame[kept].reset_index(drop=True)
            split = split[split["row"].isin(position)].assign(row=lambda s: s["row"].map(position))
        for reason, n in barred.items():
            job.console.warn(f"{n} development cases are not trained on: {reason}")
        rows = _rows(config, job, frame, split, classes, images)
        _check_classes(rows, classes, job)
        allowed = config.allow_leakage or str(job.inputs["split"].info.get("allow_leakage") or "")
        _refuse_leakage(rows, allowed)
        folds = [int(fold) for fold in sorted(split["fold"].unique())]
        prints = {(fold,): job.recipe.fingerprint(*_made_from(rows, fold, job)) for fold in folds}
        todo = [key[0] for key in build.plan(prints)]
        _carry_over(build, job.workspace.path(job.target), [f for f in folds if f not in todo])
        for fold in todo:
            job.console.info(f"  fold {fold}: training {config.model}")
            build.add(_train_fold(fold, rows, module, settings, classes, config, build.partial))
        about = _about(config, job, rows, module, settings, classes, weights, build.partial, folds) | {
            "leakage_allowed": allowed or None
        }
        write(build.partial / "model.json", json.dumps(about, indent=1, ensure_ascii=False).encode())
        _write_trained_on(build.partial, rows)
        return build.finish(info={"barred": barred, "leakage_allowed": allowed or None}, sources={"watch": ""})


def _labelled(config: Config, job: Job, classes: ClassSet) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Fused rows of the split's cases that have a class, the split over them, and how many were barred why."""
    import pandas as pd

    tables = [
        artifact.table().assign(cohort=name.removeprefix("fused/"))
        for name, artifact in job.inputs.items()
        if name.startswith("fused/")
    ]
    fused = pd.concat(tables, ignore_index=True)
    fused["class"] = [classes.to_class(diagnosis) for diagnosis in fused["diagnosis"]]
    split = job.inputs["split"].table(["fold", "cohort", "case_id", "part"])
    key = ["cohort", "case_id"]
    barred: dict[str, int] = {}

    def bar(reason: str, n: int) -> None:
        if n:
            barred[reason] = int(n)

    cases = split[key].drop_duplicates()
    present = cases.merge(fused[[*key, "status", "diagnosis", "class"]], on=key, how="left")
    bar("not in the fused table", int((present["status"] != OK).sum()))
    usable = present["status"] == OK
    bar(f"their diagnosis has no class in {classes.name}", int((usable & present["class"].isna()).sum()))
    outside = fused.merge(cases, on=key, how="left", indicator=True)["_merge"].to_numpy() == "left_only"
    ok = (fused["status"] == OK).to_numpy()
    bar("no diagnosis", int((outside & ok & fused["diagnosis"].isna()).sum()))
    bar("in no part of the split", int((outside & ok & fused["diagnosis"].notna()).sum()))
    frame = fused[ok & ~outside & fused["class"].notna()].sort_values(key, kind="stable").reset_index(drop=True)
    if frame.empty:
        raise InputError(
            f"no case of the split {job.inputs['split'].path} has a class of {classes.name!r}",
            "labelled cases with a fused row",
            "look at 'skinkit show' of the split and of the fused table, or choose another --classes",
        )
    positions = frame[key].assign(row=range(len(frame)))
    split = split.merge(positions, on=key, how="inner").sort_values(["fold", "row"], kind="stable")
    return frame, split.reset_index(drop=True), barred


def _embedded(
    config: Config, job: Job, module: Any, settings: Any, frame: pd.DataFrame, partial: Path
) -> tuple[np.ndarray, pd.Series, dict[str, str]]:
    """(readable rows, width) what the frozen network says, the outcome of each row, and which weights it had."""
    import pandas as pd
    from safetensors.torch import save

    from skinkit import infer
    from skinkit.weights import read_state

    path = _weights(config, job.workspace)()
    sha256 = file_sha256(path)
    device = infer.pick_device(job.device)
    network = module.embedder(settings, read_state(path), str(path))
    state = {name: value.contiguous() for name, value in sorted(network.net.state_dict().items())}
    write(partial / infer.BACKBONE, save(state))
    photos = [
        infer.Photo(pixels, job.workspace.cohort(cohort).root / file)
        for pixels, cohort, file in zip(frame["pixel_sha256"], frame["cohort"], frame["image_path"], strict=True)
    ]
    store = infer.embedding_store(job.workspace.root, module, settings, sha256, device)
    vectors, failed = infer.embed(network.to(device), photos, store, device=device, console=job.console)
    images, readable = infer.stacked(frame, vectors, failed)
    outcome = [OK if ok else failed[p].reason for ok, p in zip(readable, frame["pixel_sha256"], strict=True)]
    return images, pd.Series(outcome, index=frame.index), {"name": path.name, "sha256": sha256}


def _count_unreadable(outcome: pd.Series) -> dict[str, int]:
    counts = outcome[outcome != OK].value_counts().sort_index()
    return {f"their photo cannot be read ({reason})": int(n) for reason, n in counts.items()}


def _rows(
    config: Config, job: Job, frame: pd.DataFrame, split: pd.DataFrame, classes: ClassSet, images: np.ndarray | None
) -> Rows:
    import numpy as np

    from skinkit.metadata import choose_encoder

    measured = [a.info["features"] for name, a in sorted(job.inputs.items()) if name.startswith("fused/")]
    if any(set(names) != set(measured[0]) for names in measured):
        raise InputError(
            f"the development cohorts were measured differently ({', '.join(str(len(m)) for m in measured)} features)",
            "the same radiomic features in each",
            "run 'skinkit radiomics' for all of them with the same channels",
        )
    signature = None
    if config.radiomics == "signature":
        table = job.inputs["signature"].table()
        chosen = table[table["selected"].fillna(value=False).astype(bool)].sort_values("rank", kind="stable")
        signature = {fold: tuple(chosen.loc[chosen["fold"] == fold, "feature"]) for fold in split["fold"].astype(int)}
        for fold in sorted(split["fold"].unique()):
            if not signature[int(fold)]:
                job.console.warn(f"fold {fold} has an empty signature: it reads no radiomic feature")
    index = {code: i for i, code in enumerate(classes.classes)}
    return Rows(
        frame=frame,
        labels=np.array([index[code] for code in frame["class"]], dtype=np.int64),
        images=images,
        split=split,
        encoder=choose_encoder(frame) if config.attributes == "auto" else config.attributes,
        radiomics=tuple(measured[0]) if config.radiomics == "all" else (),
        signature=signature,
    )


def _check_classes(rows: Rows, classes: ClassSet, job: Job) -> None:
    """Say which class cannot be learnt; refuse where fewer than two can."""
    import numpy as np

    for fold in sorted(rows.split["fold"].unique()):
        present = np.unique(rows.labels[rows.part(int(fold), "train")])
        absent = [code for i, code in enumerate(classes.classes) if i not in present]
        if len(present) < 2:
            raise InputError(
                f"fold {fold} trains on {len(present)} class of {classes.name!r}",
                "at least two classes among its training rows",
                "draw the split for these classes (skinkit split --classes ...), or add cases",
            )
        if absent:
            job.console.warn(f"fold {fold} has no training case of {', '.join(absent)}: it can never answer that")


def _refuse_leakage(rows: Rows, allowed: str) -> None:
    """Refuse a split whose validation or held-out rows share a patient, lesion or image with training rows."""
    from skinkit import leakage

    found = []
    for fold in sorted(rows.split["fold"].unique()):
        train, rest = (rows.split["fold"] == fold) & (rows.split["part"] == "train"), rows.split["fold"] == fold
        left = rows.frame.iloc[rows.split.loc[rest & ~train, "row"]]
        found.append(leakage.check(left, rows.frame.iloc[rows.split.loc[train, "row"]], near_distance_bits=-1))
    leakage.refuse(leakage.joined(*found), allowed, "the parts of the split", "draw the split anew")


def _made_from(rows: Rows, fold: int, job: Job) -> list[Any]:
    """What a fold's files depend on: the content of its training and validation rows, and which rows are in which part.

    Of the held-out rows only their keys count.
    """
    from pandas.util import hash_pandas_object

    from skinkit.metadata import ENCODERS

    parts = rows.split[rows.split["fold"] == fold]
    keys = rows.frame.loc[parts["row"], ["cohort", "case_id"]].assign(part=parts["part"].to_numpy())
    columns = [a.name for a in ENCODERS[rows.encoder] if a.name in rows.frame]
    columns += ["class", "pixel_sha256", *rows.features(fold)]
    seen = parts.loc[parts["part"] != "held_out", "row"]
    content = hash_pandas_object(rows.frame.loc[seen, columns], index=False).astype(str).tolist()
    inputs = dict(job.sources.inputs) if job.sources else {}
    return [inputs, rows.encoder, list(rows.features(fold)), keys.to_numpy().tolist(), content]


def _carry_over(build: Builder, finished: Path, kept: list[int]) -> None:
    """Link the files of folds that stay as they are, and remove those of folds that are no more or are made anew."""
    from skinkit.infer import FOLD

    names = {FOLD.format(fold) for fold in kept}
    for folder in build.partial.glob(FOLD.format("*")):
        if folder.name not in names:
            shutil.rmtree(folder)
    for name in sorted(names):
        if not (build.partial / name / "fold.json").is_file():
            old = open_artifact(finished).path / name
            for file in sorted(old.rglob("*")):
                if file.is_file():
                    link_or_copy(file, build.partial / name / file.relative_to(old))


def _train_fold(
    fold: int, rows: Rows, module: Any, settings: Any, classes: ClassSet, config: Config, partial: Path
) -> dict[str, Any]:
    """Fit one fold, write its files, and describe it in a row."""
    import numpy as np

    from skinkit import metrics
    from skinkit.infer import FOLD, batch_of
    from skinkit.metadata import Encoder, Standardiser

    train, validation = rows.part(fold, "train"), rows.part(fold, "validation")
    features = list(rows.features(fold))
    n, labels = len(classes.classes), rows.labels[validation]

    def fitted_on(chosen: np.ndarray) -> tuple[Encoder, Standardiser, Any, np.ndarray]:
        """Encoder, scaler and model of these rows, and what they say of the validation rows."""
        encoder = Encoder.fit(rows.encoder, rows.frame.iloc[chosen])
        values = rows.frame.iloc[chosen][features].to_numpy(dtype=np.float64, na_value=np.nan)
        radiomics = Standardiser.fit(features, values, [None] * len(features))

        def batch(part: np.ndarray) -> dict[str, np.ndarray]:
            images = rows.images[part] if rows.images is not None else None
            return batch_of(rows.frame.iloc[part], encoder, radiomics, images)

        seen = batch(validation)
        fitted = module.fit(settings, batch(chosen), rows.labels[chosen], seen, labels, n, config.seed)
        return encoder, radiomics, fitted, fitted.predict(seen) if len(validation) else np.zeros((0, n))

    encoder, radiomics, fitted, scores = fitted_on(train)
    temperature = metrics.fit_temperature(scores, labels)
    if (scores.argmax(axis=1) == labels).all():
        temperature = max(1.0, temperature)  # without one error the best temperature is 0: nothing to learn it from
    probability = metrics.softmax(scores, temperature) if len(validation) else scores
    about = {
        "fold": fold,
        "temperature": temperature,
        "class_thresholds": {
            code: {"threshold": _number(metrics.youden_threshold(probability[:, k], labels == k)), "source": SOURCE}
            for k, code in enumerate(classes.classes)
        },
        "signature": features if rows.signature is not None else None,
        "n_train": len(train),
        "n_validation": len(validation),
        "n_held_out": len(rows.part(fold, "held_out")),
    }
    if config.refit and module.REFITS and len(validation):
        encoder, radiomics, fitted, _ = fitted_on(np.sort(np.concatenate([train, validation])))
    folder = partial / FOLD.format(fold)
    fitted.save(folder)
    for name, content in (("attributes", encoder.as_dict()), ("radiomics", radiomics.as_dict()), ("fold", about)):
        write(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False).encode())
    return {
        **{name: about[name] for name in ("fold", "temperature", "n_train", "n_validation", "n_held_out")},
        "validation_balanced_accuracy": metrics.balanced_accuracy(labels, probability.argmax(axis=1)),
        "validation_macro_auroc": metrics.macro_auroc(probability, labels) if len(labels) else None,
        "path": folder.name,
    }


SOURCE = "validation:youden"


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _about(
    config: Config,
    job: Job,
    rows: Rows,
    module: Any,
    settings: Any,
    classes: ClassSet,
    weights: dict[str, str] | None,
    partial: Path,
    folds: list[int],
) -> dict[str, Any]:
    """``model.json``: all that predicting, explaining and judging the model takes."""
    from skinkit.infer import FOLD

    split = job.inputs["split"]
    fused = {name: artifact for name, artifact in sorted(job.inputs.items()) if name.startswith("fused/")}
    first = next(iter(fused.values()))
    segmenters = sorted({str(s) for s in rows.frame["segmenter"].dropna().unique()})
    return {
        "model": config.model,
        "name": job.target.name,
        "settings": asdict(settings),
        "classes": classes.as_dict(),
        "threshold": config.veto,
        "attributes": rows.encoder,
        "radiomics": {
            "selection": config.radiomics,
            "features": list(rows.radiomics) if rows.signature is None else None,
            **dict(first.info.get("radiomics") or {}),
        },
        "fused": config.fused,
        "segmenter": segmenters[0] if len(segmenters) == 1 else ",".join(segmenters) or None,
        "cohorts": [name.removeprefix("fused/") for name in fused],
        "split": {"name": config.split, "identity": split.identity},
        "weights": weights,
        "seed": config.seed,
        "refitted": config.refit and module.REFITS,
        "folds": [json.loads((partial / FOLD.format(f) / "fold.json").read_text(encoding="utf-8")) for f in folds],
    }


def _write_trained_on(partial: Path, rows: Rows) -> None:
    from skinkit.artifact import write_table

    names = [name for name in TRAINED_ON.names if name not in ("fold", "part")]
    beside = rows.split[["fold", "part"]].reset_index(drop=True)
    table = rows.frame.loc[rows.split["row"], names].reset_index(drop=True)
    write_table(partial / "trained_on.parquet", TRAINED_ON, table.join(beside))
