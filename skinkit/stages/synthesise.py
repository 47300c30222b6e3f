"""synthesise: a trained generator -> synthetic images of each class and fold.

Each fold of the generator, which has learnt from that fold's training rows alone, writes its own images. Class, fold,
seed and parent of an image stand in the table and in the file, with the licence of the photos that the generator has
learnt from. 'skinkit train --synthetic NAME' takes the images as training rows of their fold.

    skinkit synthesise --model NAME                        every class as frequent as the largest one
    skinkit synthesise --model NAME --per-class 100
    skinkit synthesise --model NAME --budget MEL=200,SCC=50 --per-class 0

With --per-class balance, in each fold a class gets as many images as it lacks to the largest class among the fold's
training photos, but at most --cap for each photo of its own: more would repeat the few photos there are. --budget
names the number of single classes. More images are added to those that are there; another --seed makes all anew.

Images that repeat a training photo are counted: copy_of names it.
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
from skinkit.schemas import SYNTHETIC, SYNTHETIC_COHORT
from skinkit.stages import Job
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from skinkit.artifacts.builder import Builder
    from skinkit.learning.trained import TrainedGenerator

VERSION = 2
SCHEMA = SYNTHETIC
BALANCE = "balance"
_ON_SHEET = 24
_LICENCE_UNKNOWN = "not stated"


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
        tuple[str, ...], Help("images of one class in each fold, repeatable; before --per-class", metavar="CLASS=N")
    ] = ()
    cap: Annotated[int, "balance: at most so many images for each training photo of the class"] = 10
    seed: Annotated[int, "the seed of each image follows from it, fold, class and number"] = 0
    batch: Annotated[int, Help("images made at once", identity=False, rare=True)] = 16


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
    """The generator."""
    return {"model": Ref("models", name=config.model)}


def run(config: Config, job: Job) -> Artifact:
    """Let every fold of the generator write its images."""
    from skinkit.learning.precision import pick_device
    from skinkit.learning.synthetic import LEARNT_FILE, PARENT
    from skinkit.learning.trained import open_generator

    generator = open_generator(job.inputs["model"], config.model)
    wanted = _wanted(config, generator)
    device = pick_device(job.device)
    about = {
        "parent": config.model,
        "parent_identity": generator.identity,
        "licence": _licence(generator.about),
    }
    with job.build() as build:
        made_from = [SCHEMA.kind, SCHEMA.version, VERSION, about]
        new = set(build.plan({(one["image_id"],): digest([*made_from, *one.values()])[:32] for one in wanted}))
        todo = [one for one in wanted if (one["image_id"],) in new]
        with job.console.progress(len(todo), "synthesising") as tick:
            for fold in sorted({one["fold"] for one in todo}):
                of_fold = [one for one in todo if one["fold"] == fold]
                for row in _written(generator, fold, of_fold, about, config, device, build.partial):
                    build.add(row)
                    tick()
        outcomes = _copies(build, job)
        rows = [dict(row) for row in build.rows.values()]
        link_or_copy(job.inputs["model"].path / LEARNT_FILE, build.partial / LEARNT_FILE)
        parent = {"name": config.model, "identity": generator.identity, "licence": about["licence"]}
        parent |= {name: generator.about[name] for name in ("model", "split", "classes", "leakage_allowed")}
        write_atomic(build.partial / PARENT, json.dumps(parent, indent=1, ensure_ascii=False).encode())
        sheets = _contact_sheets(rows, config.model, build.partial)
        n = len(rows)
        copies = sum(value["copy_of"] is not None for value in outcomes.values())
        if copies:
            job.console.warn(f"{copies} of {n} images ({copies / n:.1%}) repeat a training photo; copy_of names it")
        counts = {str(fold): dict.fromkeys(generator.classes.classes, 0) for fold in generator.class_counts}
        for row in rows:
            counts[str(row["fold"])][row["class"]] += 1
        info = {
            "note": f"synthetic images written by {config.model}, no photos: training rows of their fold alone",
            "synthetic": True,
            **about,
            "classes": generator.classes.as_dict(),
            "images": counts,
            "copies": copies,
            "sheets": sheets,
        }
        return build.finish(info=info, beside=sheets, outcomes=outcomes)


def _licence(about: Mapping[str, Any]) -> str:
    """The licences of the cohorts that the generator learnt from, which its images derive from."""
    licences = about.get("licences") or {}
    return "; ".join(f"derived from {name}: {text or _LICENCE_UNKNOWN}" for name, text in licences.items())


def _wanted(config: Config, generator: TrainedGenerator) -> list[dict[str, Any]]:
    """Id, fold, class and seed of every image.

    Raises:
        ConfigError: a class that the generator does not know.
        InputError: no image at all, or images of a class that a fold has no photo of.
    """
    from skinkit.learning.schedule import seed_at

    codes, asked = generator.classes.classes, _budget(config)
    for code in asked:
        if code not in codes:
            raise ConfigError(f"--budget {code}={asked[code]}", did_you_mean(code, codes), "name a class of the model")
    wanted = []
    for fold, counts in sorted(generator.class_counts.items()):
        for label, code in enumerate(codes):
            photos, number = counts[code], asked.get(code, config.per_class)
            if number == BALANCE:
                number = min(max(counts.values()) - photos, config.cap * photos)
            if number and not photos and code in asked:
                raise InputError(
                    f"--budget {code}={number}, of which fold {fold} of {config.model} has no training photo",
                    "a class that every fold has learnt",
                    "leave it out, or train the generator on more cases",
                )
            wanted += [
                {
                    "image_id": f"synthetic-{fold}-{code}-{i:05d}",
                    "fold": fold,
                    "class": code,
                    "seed": seed_at(config.seed, fold, label, i) >> 15,
                }
                for i in range(int(number) if photos else 0)
            ]
    if not wanted:
        raise InputError(
            f"no image of {config.model} is asked for: its classes are equally frequent, or the numbers are 0",
            "at least one image",
            "give --per-class N or --budget CLASS=N",
        )
    return wanted


def _written(
    generator: TrainedGenerator,
    fold: int,
    wanted: Sequence[Mapping[str, Any]],
    about: Mapping[str, str],
    config: Config,
    device: str,
    out: Path,
) -> Iterator[dict[str, Any]]:
    """Write the images of one fold and their files; a row for each."""
    import hashlib

    from skinkit.images.encode import png_bytes
    from skinkit.images.identity import dhash, pixel_sha256, slug

    index = {code: label for label, code in enumerate(generator.classes.classes)}
    fitted = generator.generator(fold, device)
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


def _copies(build: Builder, job: Job) -> dict[tuple[Any, ...], dict[str, str | None]]:
    """Key of each row -> ``copy_of``: the training photo of its fold that an image repeats, or None."""
    import pandas as pd

    from skinkit.audit import leakage
    from skinkit.learning.synthetic import as_photos, learnt_by

    learnt = learnt_by(job.inputs["model"].path)
    images = as_photos(pd.DataFrame([dict(row) for row in build.rows.values()]), job.target.name)
    files = {h: build.partial / f for h, f in zip(images["pixel_sha256"], images["image_file"], strict=True)}
    real = leakage.photos_of(job.workspace, job.console)

    def photo(cohort: str, pixels: str) -> Path | None:
        return files.get(pixels) if cohort.startswith(SYNTHETIC_COHORT) else real.find(cohort, pixels)

    photos = leakage.Photos(photo, real.folder, real.console)

    copies: dict[tuple[Any, ...], dict[str, str | None]] = {key: {"copy_of": None} for key in build.rows}
    for fold, of_fold in images.groupby("fold"):
        found = leakage.look_at(leakage.check(of_fold, learnt[learnt["fold"] == fold], photos), photos)
        alike = found.pairs[found.pairs["kind"].isin(("pixels", leakage.NEAR))]
        for image, cohort, case in zip(alike["case_id"], alike["other_cohort"], alike["other_case_id"], strict=True):
            copies[(image,)] = {"copy_of": f"{cohort}/{case}"}
    return copies


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
