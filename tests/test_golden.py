"""Results of the stages on the demo, pinned: a change of them must raise the stage's VERSION.

When a change is meant: raise VERSION in the stage's file, then run this file with SKINKIT_UPDATE_GOLDEN=1.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skinkit.artifacts.artifact import open_artifact
from skinkit.stages import load_stage

GOLDEN = Path(__file__).parent / "golden.json"
RADIOMIC = [
    "original_firstorder_Entropy",
    "original_shape2D_Sphericity",
    "original_glcm_Correlation",
    "original_glszm_ZonePercentage",
    "original_ngtdm_Coarseness",
]
Values = dict[str, float | str | None]


def _values(path: Path, key: str, columns: list[str], rows: int = 3) -> Values:
    table = open_artifact(path).table().head(rows)
    found: Values = {}
    for row in table.to_dict("records"):
        for column in columns:
            value = row[column]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            found[f"{row[key]}:{column}"] = float(value) if number else str(value)
    return found


PINNED: dict[str, Callable[[Path], Values]] = {
    "ingest": lambda a: _values(a / "jinan" / "cases", "image_id", ["diagnosis", "site", "dhash", "group_id"]),
    "segment": lambda a: _values(a / "jinan" / "masks" / "otsu", "image_id", ["area_px", "left_px", "iou"]),
    "radiomics": lambda a: _values(
        a / "jinan" / "features" / "otsu",
        "image_id",
        RADIOMIC,
    ),
    "fuse": lambda a: _values(a / "jinan" / "fused" / "otsu", "case_id", ["segmenter", "bleed", "area_share"]),
    "split": lambda a: _values(a / "splits" / "grouped" / "split", "case_id", ["part", "class"], rows=40),
    "predict": lambda a: _values(a / "jinan" / "predictions" / "lightgbm", "case_id", ["top1", "malignancy", "call"]),
    "evaluate": lambda a: _values(a / "jinan" / "metrics" / "lightgbm", "metric", ["estimate", "lower", "n"], rows=1),
}  # fmt: skip


@pytest.mark.parametrize("stage", PINNED)
def test_results_change_only_with_the_version(stage: str, demo: Path) -> None:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    values, version = PINNED[stage](demo / "artifacts"), load_stage(stage).VERSION
    if os.environ.get("SKINKIT_UPDATE_GOLDEN"):
        golden[stage] = {"version": version, "values": values}
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    pinned = golden[stage]
    same = pinned["values"].keys() == values.keys() and all(_same(pinned["values"][k], v) for k, v in values.items())
    if pinned["version"] == version:
        changed = [k for k, v in values.items() if not _same(pinned["values"].get(k), v)]
        assert same, f"{stage} gives other values ({changed[:5]}) under the same VERSION {version}: raise it"
    else:
        pytest.fail(
            f"VERSION of {stage} is {version}, pinned was {pinned['version']}: run with SKINKIT_UPDATE_GOLDEN=1"
        )


def _same(one: object, two: object) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-5, abs_tol=1e-9) or (math.isnan(one) and math.isnan(two))
    return one == two
