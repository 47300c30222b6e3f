"""What a model says of the photo of a record: as ``skinkit predict --image`` does, with libraries kept loaded.

The answer is no diagnosis, and says so itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinkit.api import OpenWorkspace, PhotoPrediction, predict_photo
from skinkit.capture.words import notice
from skinkit.data.capture_records import UNKNOWN, Store
from skinkit.learning.pack import trained
from skinkit.learning.trained import Shelf
from skinkit.taxonomy import ClassSet

LEAST_P = 0.5
"""A largest probability below this is no answer."""


@dataclass
class Classifier:
    """A model that classifies records; one photo at a time, because two would not be faster on two cores.

    Attributes:
        opened: the workspace of the model.
        name: of the model.
    """

    opened: OpenWorkspace
    name: str
    _one: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _shelf: Shelf = field(default_factory=Shelf, repr=False)

    def __post_init__(self) -> None:
        artifact = trained(self.name, self.opened.workspace)
        about = artifact.json("model.json")
        self.classes = ClassSet.from_dict(about["classes"])
        self.about = {
            "name": self.name,
            "kind": about["model"],
            "identity": artifact.identity,
            "classes": [{"name": code, "label": self.classes.labels.get(code, code)} for code in self.classes.classes],
            "malignant": sorted(self.classes.malignant),
        }
        self._reads_outline = "truth" in str(about.get("segmenter") or "").split(",")

    def warm(self) -> float:
        """Load what a prediction needs, by predicting a drawn lesion; seconds."""
        import tempfile

        import numpy as np

        from skinkit.images.encode import png_bytes

        y, x = np.mgrid[:256, :256]
        inside = (x - 128) ** 2 + (y - 128) ** 2 < 60**2
        picture = np.where(inside[..., None], (110, 70, 50), (215, 175, 150)).astype(np.uint8)
        with tempfile.TemporaryDirectory(prefix="skinkit-") as folder:
            photo, mask = Path(folder, "photo.png"), Path(folder, "mask.png")
            photo.write_bytes(png_bytes(picture))
            mask.write_bytes(png_bytes(inside))
            began = time.perf_counter()
            with self._one:
                for _ in range(2):  # the second one still loads what the first did not need
                    self._said(photo, {}, mask if self._reads_outline else None)
        return time.perf_counter() - began

    def classify(self, record: Mapping[str, Any], store: Store) -> dict[str, Any]:
        """The answer for a record with a photo, as the API gives it.

        Raises:
            SkinkitError: as of :func:`skinkit.api.predict_photo`.
        """
        began = time.perf_counter()
        mask = store.mask_path(record) if self._reads_outline else None
        with self._one:
            said = self._said(store.photo_path(record), attributes_of(record), mask)
        return self._answer(said, record, time.perf_counter() - began)

    def _said(self, photo: Path, attributes: Mapping[str, Any], mask: Path | None) -> PhotoPrediction:
        with self._shelf.used():
            return predict_photo(self.name, photo, attributes, mask, self.opened)

    def _answer(self, said: PhotoPrediction, record: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        labels = self.classes.labels
        ranked = sorted(said.probabilities.items(), key=lambda pair: -pair[1])
        why = ["low_probability"] if ranked[0][1] < LEAST_P else []
        why += ["quality"] if record.get("verdict") == "fail" or record.get("qc_override") else []
        return {
            "model": {name: self.about[name] for name in ("name", "kind", "identity")},
            "probabilities": [
                {"name": code, "label": labels.get(code, code), "p": p, "malignant": code in said.malignant_classes}
                for code, p in ranked
            ],
            "prediction_set": list(said.prediction_set),
            "malignancy": said.malignancy,
            "call": said.call,
            "veto": said.veto,
            "threshold": said.threshold,
            "entropy": said.uncertainty.get("entropy"),
            "uncertainty": dict(said.uncertainty),
            "refer": said.refer,
            "refer_reasons": list(said.refer_reasons),
            "missing_attributes": list(said.missing_attributes),
            "flags": list(said.flags),
            "abstain": bool(why),
            "abstain_why": why,
            "seconds": round(seconds, 3),
            "notice": notice(),
        }


def attributes_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record's form says, as attributes of :func:`skinkit.api.predict_photo`; what is unknown is left out."""
    given: dict[str, Any] = {
        "age_years": record.get("age"),
        "sex": record.get("sex") if record.get("sex") in ("female", "male") else None,
        "region": record.get("site") if record.get("site") not in (None, UNKNOWN) else None,
        "fitzpatrick": record.get("fitzpatrick") if record.get("fitzpatrick") not in (None, UNKNOWN) else None,
        **(record.get("symptoms") or {}),
    }
    return {name: value for name, value in given.items() if value is not None}
