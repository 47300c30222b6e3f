"""Models of a workspace compared, several seeds a side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_cohort
from written_artifacts import make

from skinkit.commands import Context, compare
from skinkit.console import Console
from skinkit.errors import ConfigError


def test_sides_of_several_seeds(tmp_path: Path) -> None:
    workspace = small_cohort.make(tmp_path / "w", folds=1, patients=24)
    for name, settings in (("a", ("rounds=2",)), ("b", ("rounds=8",))):
        for seed in (0, 1):
            how = {"model": "lightgbm", "settings": (*settings, "min_leaf=3", "feature_fraction=0.2"), "seed": seed}
            make(workspace, "train", name=f"{name}{seed}", **how)
            make(workspace, "predict", name=f"{name}{seed}", cohorts=["jinan"])
            make(workspace, "evaluate", name=f"{name}{seed}", cohorts=["jinan"], shortcuts=False)
    context = Context(workspace.root, Console(quiet=True), device="cpu", upstream=False, cohorts=("jinan",))

    def found(*models: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = compare.run(compare.Config(models), context)["compare"]["jinan"]["differences"]
        return rows

    together, first, second = found("a0+a1", "b0+b1"), found("a0", "b0"), found("a1", "b1")
    assert together
    for row, one, two in zip(together, first, second, strict=True):
        assert row["by_seed"] == pytest.approx([one["difference"], two["difference"]])
        assert row["difference"] == pytest.approx(np.mean(row["by_seed"]))
    for wrong in (("a0+a0", "b0"), ("a0+b0", "b0")):
        with pytest.raises(ConfigError):
            found(*wrong)
