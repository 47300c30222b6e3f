"""synthesise: a trained generator -> synthetic images of each class and fold.

Each fold of the generator, which has learnt from that fold's training rows alone, writes its own images. Class, fold,
seed and parent of an image stand in the table and in the file, with the licence of the photos that the generator has
learnt from. 'skinkit train --synthetic NAME' takes the images as training rows of their fold.

    skinkit synthesise --model NAME                        every class as frequent as the largest one
    skinkit synthesise --model NAME --per-class 100
    skinkit synthesise --model NAME --budget MEL=200,SCC=50 --per-class 0
    skinkit synthesise --model NAME --agree CLASSIFIER --report

With --per-class balance, in each fold a class gets as many images as it lacks to the largest class among the fold's
training photos, but at most --cap for each photo of its own: more would repeat the few photos there are. --budget
names the number of single classes. More images are added to those that are there; another --seed makes all anew.

Images that repeat a training photo of their fold are excluded (--keep-copies counts them alone), and with --agree those
in which a classifier of the same folds does not see their class. Others are made in their place, at most --attempts
for each image asked for. --report measures the images and shows them beside the nearest photos, in 'fidelity'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.files import digest, link_or_copy, write_atomic
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.options import MODEL, Help
from skinkit.schemas import EXCLUDED, OK, SYNTHETIC, TRAINED_ON_FILE
from skinkit.stages import Job
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd

    from skinkit.artifacts.builder import Builder
    from skinkit.learning.agreement import AgreementClassifier
    from skinkit.learning.near_copies import Pictures, Squares
    from skinkit.learning.trained import TrainedGenerator

VERSION = 3
SCHEMA = SYNTHETIC
BALANCE = "balance"
_ON_SHEET = 24
_LICENCE_UNKNOWN = "not stated"
REPEATS, DISAGREES = "repeats_photo", "disagrees"
"""Reasons of images that are excluded."""


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    model: Annotated[
        str,
        Help(f"{MODEL}: a generator (default: the one the images are named after)", metavar="NAME", flag="--model"),
    ] = ""
    per_class: Annotated[
        float | str,
        Help("images of each class and fold; balance: as many as the class lacks to the largest", metavar="N|balance"),
    ] = BALANCE
    budget: Annotated[
        tuple[str, ...], Help("images of one class in each fold, repeatable; overrides --per-class", metavar="CLASS=N")
    ] = ()
    cap: Annotated[int, "balance: at most so many images for each training photo of the class"] = 10
    agree: Annotated[
        str,
        Help(
            "trained classifier of the same folds that has to see the class of an image", metavar="NAME",
            if_given=True,
        ),
    ] = ""  # fmt: skip
    agreement: Annotated[float, Help("with --agree: least probability of that class", if_given=True)] = 0.5
    copy_cosine: Annotated[float, "cosine to a training photo above which an image counts as its copy"] = 0.95
    keep_copies: Annotated[bool, "keep images that repeat a training photo; they are counted all the same"] = False
    attempts: Annotated[int, "most attempts for each image, where some are excluded"] = 3
    seed: Annotated[int, "the seed of each image follows from it, fold, class and number"] = 0
    batch: Annotated[int, Help("images made at once", identity=False, rare=True)] = 16
    report: Annotated[
        bool, Help("measure the images, and write a page with them beside the nearest photos", identity=False)
    ] = False
    report_backbone: Annotated[
        str, Help("with --report: frozen network that measures; without its weights Lite0", identity=False, rare=True)
    ] = "mobilenet_v2"
    report_weights: Annotated[
        str, Help("its weights: a file or a public name", metavar="PATH", identity=False, rare=True)
    ] = ""


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One set of images, named after the generator unless --name says otherwise."""
    name = name or config.model
    if not name:
        raise ConfigError(
            "no generator named",
            "--model NAME",
            "'skinkit models list' shows the task of each; train one with 'skinkit train --model KIND'",
        )
    check_name(name, "name of the images")
    return [Ref("synthetic", name=name)]


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """The generator that the images are named after.

    Raises:
        ConfigError: an impossible number of images.
    """
    if isinstance(config.per_class, str) and config.per_class != BALANCE:
        raise ConfigError(f"--per-class {config.per_class}", f"a whole number, or {BALANCE}", "correct it")
    if isinstance(config.per_class, float) and (config.per_class < 0 or config.per_class % 1):
        raise ConfigError(f"--per-class {config.per_class:g}", "a whole number of at least 0", "correct it")
    if config.cap < 1 or config.batch < 1:
        raise ConfigError(f"--cap {config.cap}, --batch {config.batch}", "1 or more each", "correct it")
    if config.attempts < 1:
        raise ConfigError(f"--attempts {config.attempts}", "1 or more", "correct it")
    if not (0 < config.agreement <= 1 and 0 < config.copy_cosine <= 1):
        found = f"--agreement {config.agreement:g}, --copy-cosine {config.copy_cosine:g}"
        raise ConfigError(found, "above 0 and at most 1 each", "correct it")
    if config.agreement != Config.agreement and not config.agree:
        raise ConfigError(f"--agreement {config.agreement:g} without --agree", "a classifier", "give --agree NAME")
    _budget(config)
    return replace(config, model=config.model or target.name)


def _budget(config: Config) -> dict[str, int]:
    """Class -> images that ``--budget`` asks for."""
    asked: dict[str, int] = {}
    for text in config.budget:
        code, equals, number = (part.strip() for part in text.partition("="))
        if not (code and equals and number.isdecimal()):
            raise ConfigError(f"--budget {text}", "CLASS=N with a whole number", "for example --budget MEL=200")
        asked[code] = int(number)
    return asked


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The generator, and the classifier that scores its images."""
    classifier = {"agree": Ref("models", name=config.agree)} if config.agree else {}
    return {"model": Ref("models", name=config.model), **classifier}


def run(config: Config, job: Job) -> Artifact:
    """Let every fold of the generator write its images, and exclude what repeats a photo or does not show its class."""
    from skinkit.learning.precision import pick_device
    from skinkit.learning.synthetic import PARENT
    from skinkit.learning.trained import open_generator

    generator = open_generator(job.inputs["model"], config.model)
    asked = _asked(config, generator)
    device = pick_device(job.device)
    about = {
        "parent": config.model,
        "parent_identity": generator.identity,
        "licence": _licence(generator.about),
    }
    candidates = _candidates(config, generator, asked, _weights(job.inputs["model"], generator))
    with job.build() as build:
        made_from = [SCHEMA.kind, SCHEMA.version, VERSION, about]
        every = [one for of_class in candidates.values() for one in of_class]
        new = set(build.plan({(one["image_id"],): digest([*made_from, *one.values()])[:32] for one in every}))
        classifier = _agreement_classifier(config, job, generator, device)
        outcomes: dict[tuple[Any, ...], dict[str, Any]] = {}
        measured = {}
        for fold in sorted(generator.class_counts):
            filters = _Filters(config, job, generator, fold, classifier, build)
            of_fold = {code: of for (number, code), of in candidates.items() if number == fold}
            outcomes |= _filled(of_fold, asked[fold], new, filters, _Writer(generator, fold, about, config, device))
            measured[str(fold)] = filters.calibration
        build.leave_out([key for one in every if (key := (one["image_id"],)) not in outcomes])
        _apart(build, outcomes)
        rows = [{**row, **outcomes[key]} for key, row in build.rows.items()]
        kept = [row for row in rows if row["status"] == OK]
        link_or_copy(job.inputs["model"].path / TRAINED_ON_FILE, build.partial / TRAINED_ON_FILE)
        parent = {"name": config.model, "identity": generator.identity, "licence": about["licence"]}
        parent |= {name: generator.about[name] for name in ("model", "split", "classes", "leakage_allowed")}
        write_atomic(build.partial / PARENT, json.dumps(parent, indent=1, ensure_ascii=False).encode())
        sheets = _contact_sheets(kept, config.model, build.partial)
        info = {
            "note": f"synthetic images written by {config.model}, no photos: training rows of their fold alone",
            "synthetic": True,
            **about,
            "classes": generator.classes.as_dict(),
            "asked": {str(fold): dict(of) for fold, of in asked.items()},
            "images": _counts(asked, kept),
            "excluded": {
                reason: _counts(asked, [row for row in rows if row["reason"] == reason])
                for reason in (REPEATS, DISAGREES)
            },
            "copies": sum(row["copy_of"] is not None for row in rows),
            "filters": {
                "copy_cosine": config.copy_cosine,
                "photos_of_different_lesions": measured,
                "agree": config.agree or None,
                "agreement": config.agreement if config.agree else None,
            },
            "sheets": sheets,
        }
        _say(config, job, info, rows)
        return build.finish(info=info, beside=sheets, outcomes=outcomes)


def audit(config: Config, job: Job) -> None:
    """``--report``: write the page beside the artifact, which stays as it is, even if that is up to date."""
    if not config.report:
        return
    from skinkit.artifacts.artifact import open_artifact
    from skinkit.learning.fidelity import FeatureExtractor
    from skinkit.learning.precision import pick_device
    from skinkit.reporting.fidelity import write_page

    reader = FeatureExtractor.of(config.report_backbone, config.report_weights, pick_device(job.device))
    images = open_artifact(job.workspace.path(job.target))
    written = write_page(images, job.target.name, job.workspace, reader, config.copy_cosine, job.console)
    job.console.info(f"{job.target}: {written.files['html']}")


def _counts(asked: Mapping[int, Mapping[str, int]], rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Fold -> class -> how many of the rows."""
    counts = {str(fold): dict.fromkeys(of, 0) for fold, of in asked.items()}
    for row in rows:
        counts[str(row["fold"])][row["class"]] += 1
    return counts


def _say(config: Config, job: Job, info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """How many images were kept, excluded and are lacking, by fold and class, and what the rule for copies is worth."""
    say, n, excluded = job.console, len(rows), info["excluded"]
    for fold, of in info["images"].items():
        parts = [
            f"{code} {kept} of {info['asked'][fold][code]}"
            + "".join(
                f", {excluded[reason][fold][code]} {words}"
                for reason, words in ((REPEATS, "repeat a photo"), (DISAGREES, "disagree"))
                if excluded[reason][fold][code]
            )
            for code, kept in of.items()
            if info["asked"][fold][code]
        ]
        say.info(f"  fold {fold}: {'; '.join(parts)}")
        lacking = {code: info["asked"][fold][code] - kept for code, kept in of.items()}
        if any(lacking.values()):
            said = ", ".join(f"{code} {number}" for code, number in lacking.items() if number)
            say.warn(
                f"fold {fold} lacks images after {config.attempts} attempts for each: {said}. More --attempts may "
                "help; a generator that mostly repeats photos, or misses its classes, has to be trained otherwise"
            )
    for fold, of in info["filters"]["photos_of_different_lesions"].items():
        if of["why_not"]:
            say.info(f"  fold {fold}: no cosine in features: {of['why_not']}; pictures were correlated alone")
        if of["n"]:
            say.info(
                f"  fold {fold}: of {of['n']} training photos the same rule calls {of['copies']} "
                f"({of['copies'] / of['n']:.1%}) copies of a photo of another lesion"
            )
        if of["photos_not_here"]:
            say.warn(
                f"fold {fold}: {of['photos_not_here']} training photos are not here or cannot be read: copies of these "
                "were looked for by hash alone. Restore them, remove these images and make them again"
            )
        if of["n"] and of["above_cosine"] > 0.005 * of["n"]:
            say.warn(
                f"fold {fold}: {of['above_cosine']} of {of['n']} training photos have a cosine above "
                f"{config.copy_cosine:g} to a photo of another lesion, so that says little of a copy; 99.5 % lie below "
                f"{of['cosine_995']}: give --copy-cosine that"
            )
    if info["copies"]:
        what = "kept, as --keep-copies says" if config.keep_copies else "excluded"
        say.warn(f"{info['copies']} of {n} images ({info['copies'] / n:.1%}) repeat a training photo; {what}: copy_of")


def _licence(about: Mapping[str, Any]) -> str:
    """The licences of the cohorts that the generator learnt from, which its images derive from."""
    licences = about.get("licences") or {}
    return "; ".join(f"derived from {name}: {text or _LICENCE_UNKNOWN}" for name, text in licences.items())


def _weights(model: Artifact, generator: TrainedGenerator) -> dict[int, str]:
    """Fold -> SHA-256 of the weights it has learnt; of several files, of their hashes."""
    from skinkit.learning.trained import FOLD

    out = {}
    for fold in generator.class_counts:
        files = {file: sha for file, sha in model.manifest["files"].items() if file.startswith(f"{FOLD.format(fold)}/")}
        weights = {file: sha for file, sha in files.items() if file.endswith(".safetensors")} or files
        out[fold] = next(iter(weights.values())) if len(weights) == 1 else digest(sorted(weights.items()))
    return out


def _asked(config: Config, generator: TrainedGenerator) -> dict[int, dict[str, int]]:
    """Fold -> class -> images that are asked for.

    Raises:
        ConfigError: a class that the generator does not know.
        InputError: no image at all, or images of a class that a fold has no photo of.
    """
    codes, budget = generator.classes.classes, _budget(config)
    for code in budget:
        if code not in codes:
            raise ConfigError(f"--budget {code}={budget[code]}", did_you_mean(code, codes), "name a class of the model")
    asked: dict[int, dict[str, int]] = {}
    for fold, counts in sorted(generator.class_counts.items()):
        for code in codes:
            photos, number = counts[code], budget.get(code, config.per_class)
            if number == BALANCE:
                number = min(max(counts.values()) - photos, config.cap * photos)
            if number and not photos and code in budget:
                raise InputError(
                    f"--budget {code}={number}, of which fold {fold} of {config.model} has no training photo",
                    "a class that every fold has learnt",
                    "leave it out, or train the generator on more cases",
                )
            asked.setdefault(fold, {})[code] = int(number) if photos else 0
    if not any(number for of in asked.values() for number in of.values()):
        raise InputError(
            f"no image of {config.model} is asked for: its classes are equally frequent, or the numbers are 0",
            "at least one image",
            "give --per-class N or --budget CLASS=N",
        )
    return asked


def _candidates(
    config: Config,
    generator: TrainedGenerator,
    asked: Mapping[int, Mapping[str, int]],
    weights: Mapping[int, str],
) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Fold and class -> id, fold, class, seed and weights of every image that may be made, in this order."""
    from skinkit.learning.schedule import seed_at

    attempts = 1 if config.keep_copies and not config.agree else config.attempts
    return {
        (fold, code): [
            {
                "image_id": f"synthetic-{fold}-{code}-{i:05d}",
                "fold": fold,
                "class": code,
                "seed": seed_at(config.seed, fold, label, i) >> 15,
                "weights_sha256": weights[fold],
            }
            for i in range(attempts * of[code])
        ]
        for fold, of in asked.items()
        for label, code in enumerate(generator.classes.classes)
    }


def _agreement_classifier(
    config: Config, job: Job, generator: TrainedGenerator, device: str
) -> AgreementClassifier | None:
    from skinkit.learning.agreement import AgreementClassifier

    if not config.agree:
        return None
    return AgreementClassifier(job.inputs["agree"], config.agree, generator, job.workspace.root, device, job.console)


def _filled(
    candidates: Mapping[str, Sequence[Mapping[str, Any]]],
    asked: Mapping[str, int],
    new: set[tuple[Any, ...]],
    filters: _Filters,
    writer: _Writer,
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Key of each image of a fold that is made or kept -> its outcome, until each class has what is asked for.

    Args:
        candidates: class -> images that may be made, in this order.
        asked: class -> how many have to pass.
        new: keys of images that are not there yet.
        filters: of the fold.
        writer: of the fold.
    """
    outcomes: dict[tuple[Any, ...], dict[str, Any]] = {}
    tried, passed = dict.fromkeys(candidates, 0), dict.fromkeys(candidates, 0)
    while turn := [
        one for code, of in candidates.items() for one in of[tried[code] : tried[code] + asked[code] - passed[code]]
    ]:
        writer.write([one for one in turn if (one["image_id"],) in new], filters)
        found = filters.outcomes([(one["image_id"],) for one in turn])
        for one in turn:
            tried[one["class"]] += 1
            passed[one["class"]] += found[one["image_id"],]["status"] == OK
        outcomes |= found
    return outcomes


class _Writer:
    """Writes the images of one fold, whose generator is loaded once."""

    def __init__(
        self, generator: TrainedGenerator, fold: int, about: Mapping[str, str], config: Config, device: str
    ) -> None:
        self._of = generator, fold, about, config, device
        self._fitted: Any = None

    def write(self, wanted: Sequence[Mapping[str, Any]], filters: _Filters) -> None:
        """Make these images and add their rows."""
        if not wanted:
            return
        generator, fold, about, config, device = self._of
        if self._fitted is None:
            self._fitted = generator.generator(fold, device)
        with filters.console.progress(len(wanted), f"synthesising, fold {fold}") as tick:
            for row in _written(generator, self._fitted, wanted, about, config, filters.build.partial):
                filters.build.add(row)
                tick()


class _Filters:
    """What excludes images of one fold: the photos it has learnt from, and a classifier that has learnt from them too.

    Attributes:
        calibration: what the rule for copies says of training photos of different lesions.
    """

    def __init__(
        self,
        config: Config,
        job: Job,
        generator: TrainedGenerator,
        fold: int,
        classifier: AgreementClassifier | None,
        build: Builder,
    ) -> None:
        from skinkit.learning.near_copies import Squares
        from skinkit.learning.synthetic import learnt_by

        self.console, self.build = job.console, build
        self._config, self._fold, self._classifier, self._name = config, fold, classifier, job.target.name
        self._files: dict[str, Path] = {}
        learnt = learnt_by(job.inputs["model"].path)
        self._learnt: pd.DataFrame = learnt[learnt["fold"] == fold]
        self._photos: Squares = Squares(job.workspace, generator.config.side_px, self._files, job.console)
        self._of_photos: Pictures | None = None
        self.calibration: dict[str, Any] = {"n": 0, "copies": 0, "above_cosine": 0, "why_not": "", "photos_not_here": 0}

    def outcomes(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Key -> status, reason, detail, and what they follow from."""
        import pandas as pd

        from skinkit.learning.synthetic import as_photos

        images = as_photos(pd.DataFrame([dict(self.build.rows[key]) for key in keys]), self._name)
        self._files |= {
            pixels: self.build.partial / file
            for pixels, file in zip(images["pixel_sha256"], images["image_file"], strict=True)
        }
        found = self._repeated(images)
        said: Sequence[float | None] = [None] * len(images)
        if self._classifier is not None:
            said = self._classifier.agreement(self._fold, images, self.build.partial).tolist()
        return {
            key: self._outcome(found.loc[pixels].to_dict(), agreement)
            for key, pixels, agreement in zip(keys, images["pixel_sha256"], said, strict=True)
        }

    def _outcome(self, found: dict[str, Any], agreement: float | None) -> dict[str, Any]:
        """The outcome of an image; a probability that is not known is none that agrees."""
        reason = detail = None
        if self._classifier is not None and not (agreement is not None and agreement >= self._config.agreement):
            reason, detail = DISAGREES, f"{self._classifier.name} gives its class a probability of {agreement:.3f}"
        if found["copy_of"] is not None and not self._config.keep_copies:
            reason, detail = REPEATS, f"it shows the training photo {found['copy_of']}"
        values = {name: None if value != value else value for name, value in found.items()}
        agreed = None if agreement is None or agreement != agreement else agreement
        status = OK if reason is None else EXCLUDED
        return {**values, "agreement": agreed, "status": status, "reason": reason, "detail": detail}

    def _repeated(self, images: pd.DataFrame) -> pd.DataFrame:
        """Of each pixel hash: copy_of, nearest, cosine, correlation."""
        from skinkit.audit import leakage
        from skinkit.learning.near_copies import Pictures, calibration, repeated

        if self._of_photos is None:
            self._of_photos = Pictures.of(self._learnt, self._photos)
            self.calibration = {
                **calibration(self._of_photos, self._photos, self._config.copy_cosine),
                "photos": len(self._of_photos.keys),
                "photos_not_here": self._learnt["pixel_sha256"].nunique() - len(self._of_photos.keys),
            }
        own = Pictures.of(images, self._photos)
        self.calibration["why_not"] = own.why_not or self._of_photos.why_not
        found = repeated(own, self._of_photos, self._photos, self._config.copy_cosine)
        # By hash too: of photos that are not here any more nothing else is known.
        hashed = leakage.verified_on_photos(leakage.check(images, self._learnt), self._photos).pairs
        hashed = hashed[hashed["kind"].isin(("file", "pixels", leakage.NEAR))]
        pixels = images.set_index("case_id")["pixel_sha256"]
        for image, cohort, case in zip(hashed["case_id"], hashed["other_cohort"], hashed["other_case_id"], strict=True):
            if found.loc[pixels[image], "copy_of"] is None:
                found.loc[pixels[image], "copy_of"] = f"{cohort}/{case}"
        return found


def _apart(build: Builder, outcomes: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> None:
    """Put the files of excluded images into a folder of their own: copies show a patient's photo."""
    for key, row in list(build.rows.items()):
        folder = "png" if outcomes[key]["status"] == OK else "excluded"
        before, after = row["image_file"], f"{folder}/{row['image_file'].rpartition('/')[2]}"
        if before != after:
            (build.partial / after).parent.mkdir(exist_ok=True)
            (build.partial / before).replace(build.partial / after)
            build.add({**row, "image_file": after})


def _written(
    generator: TrainedGenerator,
    fitted: Any,
    wanted: Sequence[Mapping[str, Any]],
    about: Mapping[str, str],
    config: Config,
    out: Path,
) -> Iterator[dict[str, Any]]:
    """Write images of one fold and their files; a row for each."""
    import hashlib

    from skinkit.images.encode import png_bytes
    from skinkit.images.identity import dhash, pixel_sha256, slug

    index = {code: label for label, code in enumerate(generator.classes.classes)}
    for begin in range(0, len(wanted), config.batch):
        some = wanted[begin : begin + config.batch]
        images = _synthesised(generator, fitted, [index[one["class"]] for one in some], [one["seed"] for one in some])
        for one, image in zip(some, images, strict=True):
            marks = {"synthetic": "yes: not a photo", **{k: str(v) for k, v in one.items()}, **about}
            data = png_bytes(image, {"Title": "synthetic image", **marks})
            file = f"png/{slug(one['image_id'])}.png"
            write_atomic(out / file, data)
            yield {
                **one,
                **about,
                "image_file": file,
                "image_sha256": hashlib.sha256(data).hexdigest(),
                "pixel_sha256": pixel_sha256(image),
                "dhash": dhash(image),
                "side_px": len(image),
            }


def _synthesised(generator: TrainedGenerator, fitted: Any, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
    """uint8 (n, side, side, 3) of a fold.

    Raises:
        InputError: the model answers something else.
    """
    import numpy as np

    from skinkit.models import Network

    if issubclass(generator.model_class, Network):
        import torch

        with torch.no_grad():
            images = np.asarray(fitted.synthesise(labels, seeds))
    else:
        images = np.asarray(fitted.synthesise(labels, seeds))
    shape = (len(seeds), generator.config.side_px, generator.config.side_px, 3)
    if images.dtype != np.uint8 or images.shape != shape:
        raise InputError(
            f"{generator.name} answers {images.dtype} images of shape {images.shape}",
            f"uint8 of shape {shape}",
            "hold its file to skinkit.contract.check_model, and train it again",
        )
    return images


def _contact_sheets(rows: Sequence[Mapping[str, Any]], parent: str, out: Path) -> list[str]:
    """Write one sheet of images per class, each marked as synthetic, and name the files."""
    from skinkit.figures.photos import synthetic_sheet
    from skinkit.images.decode import read_rgb
    from skinkit.images.identity import slug

    sheets = []
    for code in sorted({row["class"] for row in rows}):
        of_class = sorted((row for row in rows if row["class"] == code), key=lambda row: str(row["image_id"]))
        step = max(1, len(of_class) // _ON_SHEET)
        shown = of_class[::step][:_ON_SHEET]
        images = [read_rgb(out / row["image_file"]) for row in shown]
        folds = listed(sorted({f"{row['fold']}" for row in of_class}))
        title = f"synthetic {code}: {len(of_class)} images by {parent}, folds {folds}"
        sheets.append(f"sheet_{slug(code)}.png")
        write_atomic(out / sheets[-1], synthetic_sheet(images, title))
    return sheets
