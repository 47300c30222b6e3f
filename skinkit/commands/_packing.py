"""What a pack holds that the model's folder here does not: the card as a person wrote it, and replay features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skinkit.artifacts.artifact import Artifact
from skinkit.commands import Context
from skinkit.learning import pack as model_pack
from skinkit.learning import replay_features, replay_sample
from skinkit.learning.precision import pick_device
from skinkit.learning.replay_features import ReplayFeatures
from skinkit.learning.trained import open_classifier
from skinkit.reporting import model_card

_NONE = "no replay features"


@dataclass(frozen=True)
class Replayed:
    """The replay features that go into a pack.

    Attributes:
        rows: folder of the fold -> class -> cases.
        files: file of the model -> its bytes; None where the model has it and the pack is not to.
        sentence: what the command says of them.
    """

    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    sentence: str = ""


def replay_of(artifact: Artifact, name: str, context: Context, *, per_class: int, seed: int) -> Replayed:
    """The replay features of a model: those it was installed with, or new ones of its training cases.

    Args:
        artifact: the model.
        name: how it is called here.
        context: workspace and device.
        per_class: most cases of a class, in each fold; 0 for none.
        seed: of the draw.

    Raises:
        InputError: the cases that it was trained on are no longer there, or a file of the model is damaged.
        RefusedError: a file of the model has changed.
    """
    about = model_pack.checked(artifact).json("model.json")
    if about.get("task", "classify") != "classify":
        return Replayed(sentence=f"{_NONE}: it is no classifier")
    codes = about["classes"]["classes"]
    if artifact.installed or not per_class:
        there = replay_features.of_artifact(artifact)
        if not per_class:
            dropped = dict.fromkeys(f"{folder}/{replay_features.FILE}" for folder in there)
            return Replayed(files=dropped, sentence=f"{_NONE}: --no-replay")
        return _replayed(there, codes, {}, "it was installed from a pack without them")
    model = open_classifier(artifact, name)
    device = pick_device(context.device) if model.uses_device else "cpu"
    sample = replay_sample.draw(
        model, context.workspace(), per_class=per_class, seed=seed, device=device, console=context.console
    )
    return _replayed(sample.of_folds, codes, sample.files, sample.why_none)


def _replayed(
    of_folds: Mapping[str, ReplayFeatures], codes: Sequence[str], files: Mapping[str, bytes], why_none: str
) -> Replayed:
    """They, and what to say of them."""
    rows = {folder: of.rows_by_class(codes) for folder, of in of_folds.items()}
    if not rows:
        return Replayed(sentence=f"{_NONE}: {why_none}")
    each = "; ".join(f"{folder}: {', '.join(f'{code} {n}' for code, n in of.items())}" for folder, of in rows.items())
    sentence = f"replay features, no photos, of training cases ({each}); --no-replay leaves them out"
    return Replayed(rows, files, sentence)


def changes(name: str, replayed: Replayed, by_person: Mapping[str, Any] | None, file: str) -> model_pack.Changed:
    """What a pack holds that the models' folders do not.

    Args:
        name: of the model that is packed; the other part is its segmenter.
        replayed: its replay features.
        by_person: what a person wrote for the cards, and below ``segmenter`` for that of the segmenter; None: nothing.
        file: where they wrote it.
    """
    written = dict(by_person or {})
    of_segmenter = written.pop(model_pack.SEGMENTER, {})

    def changed(part: str, artifact: Artifact) -> Mapping[str, bytes | None]:
        own = artifact.path.name == name
        files = replayed.files if own else {}
        if by_person is None and not (own and artifact.sha256_of(model_card.FILES[1])):
            return files  # older models have no card
        card = artifact.json(model_card.FILES[1])
        content = model_card.with_replay(card, replayed.rows) if own else card
        if by_person is None and content == card:
            return files
        return {**model_card.filled(content, written if own else of_segmenter, file), **files}

    return changed
