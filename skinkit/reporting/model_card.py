"""The model card: a trained model's architecture, training data and intended use, written with the model.

Markdown for people and the same content as JSON. It uses only ``model.json`` and the model's tables; performance on
unseen cases is reported by ``skinkit evaluate`` and the report.

Source: the headings follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skinkit import __version__
from skinkit.artifacts.files import write_atomic
from skinkit.errors import ConfigError, did_you_mean
from skinkit.learning import untrained
from skinkit.learning.replay_features import NOTE
from skinkit.learning.trained import effective_prevalence
from skinkit.models import Model, text_of
from skinkit.schemas import MODEL

FILES = ("model_card.md", "model_card.json")
TO_WRITE = "to be written by a person"
REPLAY = "replay_features"
"""Part of the card of a model whose files hold some."""
_SOURCES = "training_data.sources"
_PARTS = ("train", "validation", "held_out")


def card(
    about: Mapping[str, Any],
    folds: Sequence[Mapping[str, Any]],
    trained_on: pd.DataFrame,
    model: type[Model] | None = None,
) -> dict[str, Any]:
    """The content of the card, as plain values.

    Args:
        about: ``model.json``.
        folds: rows of the model's table.
        trained_on: one row per fold and case: fold, cohort, part, group_id and, for a classifier, class.
        model: the model's class; the docstring of its file has paper, idea and departures.
    """
    classes = about.get("classes") or {}
    paper = _docstring(model)
    return {
        "model": {
            "name": about["name"],
            "kind": about["model"],
            "task": about.get("task", "classify"),
            "version": __version__,
            "paper": paper.get("Paper"),
            "idea": paper.get("Idea"),
            "departures": paper.get("Departures"),
            "licence": TO_WRITE,
            "contact": TO_WRITE,
        },
        "intended_use": {
            "use": "research on photographs of skin lesions; not a diagnosis, and no substitute for an examination",
            "users": TO_WRITE,
            "out_of_scope": [
                "decisions about a patient without a physician",
                "diagnoses outside of the classes below, which it cannot name",
                "photographs or patients unlike those it was trained on: see unlike_training in its predictions",
            ],
        },
        "inputs_and_outputs": {
            "attributes": about.get("attributes"),
            "radiomics": about.get("radiomics"),
            "segmenter": about.get("segmenter"),
            "classes": {code: (classes.get("labels") or {}).get(code, code) for code in classes.get("classes", [])},
            **(
                {"further_tasks": {name: ", ".join(of["classes"]) for name, of in about["tasks"].items()}}
                if "tasks" in about
                else {}
            ),
            "malignant_set": classes.get("malignant_set"),
            "malignant": classes.get("malignant"),
            "malignancy_holds_at_prevalence": effective_prevalence(about, classes.get("malignant") or ()),
            "threshold": about.get("threshold"),
            "threshold_rule": about.get("veto_rule"),
        },
        "training_data": {
            "cohorts": _cohorts(trained_on),
            "replay": about.get("replay"),
            **({"not_trained_on": about["not_trained_on"]} if "not_trained_on" in about else {}),
            "absent_classes": {name: ", ".join(codes) for name, codes in (about.get("absent_classes") or {}).items()},
            "folds": [
                {name: _value(fold.get(name)) for name in ("fold", *(f"n_{part}" for part in _PARTS))} for fold in folds
            ],
            "synthetic": about.get("synthetic"),
            "split": about.get("split"),
            "leakage_allowed": about.get("leakage_allowed"),
        },
        "training": {
            "settings": about.get("settings"),
            "weights": about.get("weights"),
            **{name: about[name] for name in ("teacher", "members", "objective") if name in about},
            "seed": about.get("seed"),
            "precision": about.get("precision"),
            "refitted": about.get("refitted"),
        },
        "validation": {
            "note": "on the validation rows that chose epoch, calibration and thresholds: too good to be believed",
            "folds": [
                {
                    name: _value(fold.get(name))
                    for name in MODEL.names
                    if name == "fold" or name.startswith("validation")
                }
                for fold in folds
            ],
        },
        "evaluation": "see 'skinkit evaluate' and 'skinkit report'; figures hold for the cohorts scored there alone",
        "cautions": _cautions(about, trained_on),
        "ethics": TO_WRITE,
    }


def write(
    folder: Path,
    about: Mapping[str, Any],
    folds: Sequence[Mapping[str, Any]],
    trained_on: pd.DataFrame,
    model: type[Model] | None = None,
) -> None:
    """Write ``model_card.json`` and ``model_card.md`` into the model's folder."""
    content = card(about, folds, trained_on, model)
    write_atomic(folder / FILES[1], json.dumps(content, ensure_ascii=False, indent=1, default=str).encode())
    write_atomic(folder / FILES[0], markdown(content).encode())


def with_replay(card_content: Mapping[str, Any], of_folds: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """A card that says of which training cases the model's files hold replay features, or that no longer says so.

    Args:
        card_content: of :func:`card`.
        of_folds: fold -> class -> cases; empty for none.
    """
    content = {part: of for part, of in card_content.items() if part != REPLAY}
    if of_folds:
        content[REPLAY] = {
            "what": "what the last, linear step reads of some training cases, their classes and the model's answers, "
            "to adapt it to other photos later; no photo and no id",
            "note": NOTE,
            "cases": [
                {"fold": fold, "cases": sum(counts.values())}
                | {"by class": ", ".join(f"{code} {n}" for code, n in counts.items() if n)}
                for fold, counts in of_folds.items()
            ],
            "licence": (card_content.get(REPLAY) or {}).get("licence", TO_WRITE),
        }
    return content


def filled(card_content: Mapping[str, Any], by_person: Mapping[str, Any], where: str) -> dict[str, bytes]:
    """The files of a card in which a person has written what is theirs to write.

    Args:
        card_content: of :func:`card`.
        by_person: its parts -> name -> text, where the card says that a person writes it; and ``sources`` of
            ``training_data``, a list of texts: where photos, masks and labels come from, under which licences.
        where: the file, for errors.

    Returns:
        Name of each file -> its content.

    Raises:
        ConfigError: something else is written.
    """
    content = {part: dict(of) if isinstance(of, Mapping) else of for part, of in card_content.items()}
    places = [f"{part}.{name}" for part, of in content.items() if isinstance(of, dict) for name in of]
    places = [place for place in places if content[place.partition(".")[0]][place.partition(".")[2]] == TO_WRITE]
    places += [part for part, of in content.items() if of == TO_WRITE]
    for part, of in by_person.items():
        for name, text in of.items() if isinstance(of, Mapping) else [("", of)]:
            place = f"{part}.{name}" if name else part
            is_list = isinstance(text, list) and all(isinstance(line, str) for line in text)
            if place != _SOURCES and place not in places:
                raise ConfigError(
                    f"{place} in {where}", did_you_mean(place, [*places, _SOURCES]), "leave the rest to skinkit"
                )
            if not (is_list if place == _SOURCES else isinstance(text, str)):
                kind = "a list of texts" if place == _SOURCES else "text in quotes"
                raise ConfigError(f"{place} = {text!r} in {where}", kind, "correct the value")
            if name:
                content[part][name] = text
            else:
                content[part] = text
    as_json = json.dumps(content, ensure_ascii=False, indent=1, default=str)
    return {FILES[0]: markdown(content).encode(), FILES[1]: as_json.encode()}


def markdown(card_content: Mapping[str, Any]) -> str:
    """The card as Markdown: one heading per part, one line per fact."""
    lines = [f"# Model card: {card_content['model']['name']}", "", f"> {card_content['intended_use']['use']}.", ""]
    for part, content in card_content.items():
        lines += [f"## {_title(part)}", ""]
        lines += [*_lines(content, 0), ""]
    return "\n".join(lines).rstrip() + "\n"


def _lines(content: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(content, Mapping):
        lines = []
        for name, value in content.items():
            if value in (None, "", [], {}):
                continue
            if isinstance(value, (Mapping, list)):
                lines += [f"{indent}- {_title(name)}:", *_lines(value, depth + 1)]
            else:
                lines.append(f"{indent}- {_title(name)}: {_value_text(value)}")
        return lines
    if isinstance(content, list):
        flat = all(not isinstance(value, (Mapping, list)) for value in content)
        if flat and len(content) > 12:
            return [f"{indent}- {', '.join(map(_value_text, content))}"]
        return [
            f"{indent}- {', '.join(f'{_title(k)} {_value_text(v)}' for k, v in value.items() if v is not None)}"
            if isinstance(value, Mapping)
            else f"{indent}- {_value_text(value)}"
            for value in content
        ]
    return [f"{indent}{_value_text(content)}"]


def _title(name: object) -> str:
    text = str(name)
    return text if text.isupper() else text.replace("_", " ").capitalize()


def _value_text(value: Any) -> str:
    if value == TO_WRITE:
        return f"**{TO_WRITE}**"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _value(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _docstring(model: type[Model] | None) -> dict[str, str]:
    """The sections of a model's docstring that the card quotes."""
    text = text_of(model) if model is not None else ""
    sections: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        head, colon, rest = line.partition(":")
        bare = line.strip().rstrip(":")
        if colon and head in ("Paper", "Idea", "Departures", "Equations", "Shapes"):
            section = head
            sections[section] = [rest.strip()]
        elif bare in ("Paper", "Idea", "Departures", "Equations", "Shapes"):
            section = bare
            sections[section] = []
        elif section and line.strip("-= "):
            sections[section].append(line.strip())
    return {name: " ".join(part for part in lines if part) for name, lines in sections.items()}


def _cohorts(trained_on: pd.DataFrame) -> list[dict[str, Any]]:
    """Cases and groups (patients, if known) of every cohort, and cases of each class, if any."""
    once = trained_on.drop_duplicates(["cohort", "case_id"])
    rows = []
    for cohort, own in once.groupby("cohort"):
        row: dict[str, Any] = {"cohort": str(cohort), "cases": len(own), "groups": int(own["group_id"].nunique())}
        if "class" in own and own["class"].notna().any():
            row["cases by class"] = ", ".join(f"{name} {n}" for name, n in own["class"].value_counts().items())
        rows.append(row)
    return rows


def _cautions(about: Mapping[str, Any], trained_on: pd.DataFrame) -> list[str]:
    cautions = []
    if (unlearnt := untrained.of_model(about)) is not None:
        cautions.append(f"it {untrained.sentence(unlearnt)}")
    if about.get("leakage_allowed"):
        cautions.append(f"trained on a split that leaks, allowed because: {about['leakage_allowed']}")
    if trained_on["cohort"].nunique() == 1:
        cautions.append("trained on one cohort only: expect lower performance elsewhere")
    if synthetic := about.get("synthetic"):
        n = sum(n for of in synthetic["images"].values() for n in of.values())
        cautions.append(f"trained with {n} synthetic images by {synthetic['parent']}, which are no photos of patients")
    if about.get("task") == "generate":
        cautions.append("its images are no photos of patients, and may repeat one: see copy_of of 'skinkit synthesise'")
    if "otsu" in str(about.get("segmenter") or "").split(","):
        cautions.append("measured in outlines drawn by Otsu's threshold, a baseline without training")
    cautions += [str(each["sentence"]) for each in about.get("label_attributes", ())]
    cautions.append("missing attributes may reveal the diagnosis: see 'skinkit audit'")
    return cautions
