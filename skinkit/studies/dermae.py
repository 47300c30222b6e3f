"""DerMAE (Filho et al. 2026): images of a generator, masked pretraining, a teacher and a student; its grid as code.

The grid is {no images, images} x {no autoencoder, of photos, of images, of both} x {teacher, student, student taught by
the teacher}, on HAM10000 with lesions kept together. Everything else is in the TOML.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from skinkit.studies.reading import read_study

_IMAGES = {"photos": "photos", "mixed": "photos and images"}
_AUTOENCODERS = {"none": "no MAE", "real": "MAE of photos", "syn": "MAE of images", "both": "MAE of both"}
_ROLES = {"teacher": "teacher", "student": "student alone", "kd": "student and teacher"}


def cells() -> Iterator[dict[str, Any]]:
    """The arms of the grid as tables of the TOML, each after those that lack one thing it has; the whole is the last.

    A cell extends the one without images, the one without an autoencoder, and of a taught student the same one alone.
    """
    for images, mae, role in product(_IMAGES, _AUTOENCODERS, _ROLES):
        poorer = [f"{role}-photos-{mae}"] if images == "mixed" else []
        poorer += [f"{role}-{images}-none"] if mae != "none" else []
        poorer += [f"student-{images}-{mae}"] if role == "kd" else []
        size = "teacher" if role == "teacher" else "student"
        # A teacher answers for photos as they are, and the same student learns without one.
        settings: dict[str, Any] = {} if role == "teacher" else {"mixup": 0.0}
        settings |= {"recipe.synthetic_share": 0.5, "synthetic_weight": 0.5} if images == "mixed" else {}
        settings |= {"objective.share": 0.7} if role == "kd" else {}
        yield {
            "name": f"{role}-{images}-{mae}",
            "words": f"{_ROLES[role]}, {_IMAGES[images]}, {_AUTOENCODERS[mae]}",
            "model": "vit",
            "preset": size,
            "attributes": "none",
            "weights": "none" if mae == "none" else f"model:mae_{size}-{mae}",
            "settings": settings,
            "extends": poorer,
            **({"synthetic": "images"} if images == "mixed" else {}),
            **({"teacher": f"teacher-{images}-{mae}"} if role == "kd" else {}),
        }


STUDY = read_study(__file__, more_arms=list(cells()))
