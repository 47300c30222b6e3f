"""``skinkit predict --image PHOTO``: the prediction of one lesion, as an object or as text for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skinkit.api import PhotoPrediction, open_workspace, predict_photo
from skinkit.commands import Context
from skinkit.console import as_lines
from skinkit.errors import ConfigError
from skinkit.schemas import UNTRAINED

OPTIONS = frozenset({"image", "attribute", "mask", "label", "mask_polarity"})
"""The options of ``predict`` that are for one photo."""


def run(settings: Mapping[str, Any], model: str, context: Context) -> dict[str, Any]:
    """Predict the photo of ``--image``.

    Args:
        settings: options given to ``predict``, by name.
        model: name of the model; empty for the workspace's.
        context: of the command.

    Raises:
        ConfigError: options that do not go together, or an attribute that is not NAME=VALUE.
    """
    if not settings.get("image"):
        raise ConfigError(
            "--attribute, --mask, --label or --mask-polarity without --image",
            "--image PHOTO",
            "name the photo, or leave them out",
        )
    if context.cohorts or context.share:
        option = "--cohort" if context.cohorts else "--shard"
        raise ConfigError(f"--image and {option}", "one of them", f"leave {option} out to predict one photo")
    opened = open_workspace(context.folder, device=context.device, console=context.console)
    prediction = predict_photo(
        model,
        settings["image"],
        attribute_values(settings.get("attribute", ())),
        settings.get("mask") or None,
        opened,
        label=settings.get("label"),
        mask_polarity=settings.get("mask_polarity", ""),
        **{name: value for name, value in settings.items() if name not in OPTIONS},
    )
    return {"command": "predict", "prediction": prediction.as_dict(), "text": text_of(prediction)}


def attribute_values(entries: Sequence[str]) -> dict[str, str]:
    """Name -> value of ``--attribute`` texts; raises :class:`ConfigError` for one that is not NAME=VALUE, or twice."""
    attributes: dict[str, str] = {}
    for entry in entries:
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not (name and equals):
            raise ConfigError(f"--attribute {entry}", "NAME=VALUE", "write for example --attribute age_years=63")
        if name in attributes:
            raise ConfigError(f"--attribute {name} twice", "each attribute once", "leave one of them out")
        attributes[name] = value
    return attributes


def text_of(prediction: PhotoPrediction) -> str:
    """The prediction for a person: classes by probability, malignancy against its threshold, how unusual it is."""
    ranked = sorted(prediction.probabilities.items(), key=lambda entry: -entry[1])
    width = max(len(code) for code, _ in ranked)
    relation = ">=" if prediction.malignancy >= prediction.threshold else "<"
    veto = " (veto: the most probable class is benign)" if prediction.veto else ""
    unlike = prediction.unlike_training
    holds = prediction.effective_prevalence
    every_class = len(prediction.prediction_set) == len(prediction.probabilities)
    untrained = UNTRAINED in prediction.refer_reasons
    lines = [
        *(["The model has learnt nothing: what follows says nothing about this lesion."] if untrained else []),
        f"{Path(prediction.photo).name}, model {prediction.model} ({prediction.model_identity[:12]})",
        *(["The model rules nothing out: the prediction set holds every class."] if every_class else []),
        *(
            f"  {code:<{width}}  {p:.3f}{'  malignant' if code in prediction.malignant_classes else ''}"
            for code, p in ranked
        ),
        f"malignancy {prediction.malignancy:.3f} {relation} threshold {prediction.threshold:.3f}: "
        f"{prediction.call}{veto}",
        *([] if holds is None else [f"malignancy is stated for a mix with {holds:.1%} malignant lesions"]),
        f"prediction set: {', '.join(prediction.prediction_set) or 'empty'}",
        "uncertainty: " + ", ".join(f"{name} {value:.3f}" for name, value in prediction.uncertainty.items()),
        "unusual: the model cannot say"
        if unlike is None
        else f"unusual: less like the training cases than {unlike:.0f} % of the validation cases",
    ]
    notes = {
        "refer to a dermatologist": prediction.refer_reasons,
        "unknown to the model": prediction.missing_attributes,
        "not read by the model": prediction.not_read,
        "flags": prediction.flags,
    }
    lines += [f"{what}: {', '.join(names)}" for what, names in notes.items() if names]
    return as_lines([*lines, "Research software: no diagnosis."])
