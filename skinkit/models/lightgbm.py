"""Gradient-boosted trees on radiomic features and metadata.

Paper:
    G. Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017. Contributions are exact
    Shapley values of the trees: S. M. Lundberg et al., "From local explanations to global understanding with
    explainable AI for trees", Nature Machine Intelligence 2, 2020, doi 10.1038/s42256-019-0138-9.

Idea:
    Trees read tables without scaling and without knowing which column matters. Many small trees, each mending what the
    ones before got wrong, stop when the validation rows no longer improve.

Equations:
    (1) z_c(x) = sum_m eta f_{m,c}(x),   p = softmax(z)                        f: regression trees
    (2) min over f:  - sum_i n/(K n_{y_i}) log p_{y_i}(x_i)                    class-balanced log loss
    (3) z_c(x) = phi_{0,c} + sum_j phi_{j,c}(x)                                Shapley values

Shapes:
    attributes (n, a), radiomics (n, r) -> p (n, K).

Departures:
    Columns come filled and standardised like every model's, which changes no split's order. ``deterministic`` with a
    fixed seed and row-wise histograms gives the same trees on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np

from skinkit.artifacts.files import write_atomic
from skinkit.models.parts.inputs import by_input, joined, widths_of
from skinkit.models.parts.protocol import Estimator, Labelled
from skinkit.models.parts.tree_text import checked_trees
from skinkit.stats.metrics import Floats
from skinkit.stats.regression import log_softmax


@dataclass(frozen=True)
class Config:
    """Options of the trees."""

    learning_rate: Annotated[float, "eta of eq. 1"] = 0.05
    num_leaves: Annotated[int, "leaves of a tree"] = 7
    min_leaf: Annotated[int, "least training cases in a leaf"] = 10
    l2: Annotated[float, "penalty on leaf values"] = 20.0
    feature_fraction: Annotated[float, "share of the columns a tree may use"] = 0.3
    rounds: Annotated[int, "most trees per class"] = 1000
    patience: Annotated[int, "stop after this many rounds without a better validation loss"] = 50
    threads: Annotated[int, "threads; one is fastest below some ten thousand cases"] = 1


@dataclass(frozen=True)
class Trees(Estimator):
    """Fitted trees.

    Attributes:
        booster: LightGBM's.
        widths: columns of each input, in order.
        file: it was read from, with settings of the training that LightGBM is not given again; empty where fitted.
    """

    TASK = "classify"
    READS = ("attributes", "radiomics")
    CONFIG = Config
    TASKS = True
    RADIOMICS = "all"
    BALANCED = True

    booster: Any
    widths: Mapping[str, int]
    file: bytes = b""

    @classmethod
    def fit(cls, config: Config, train: Labelled, validation: Labelled, *, n_classes: int, seed: int) -> Self:
        """Fit eq. 2 on the training rows; the validation rows decide only how many trees are kept."""
        import lightgbm

        counts = np.bincount(train.labels, minlength=n_classes)
        present = np.count_nonzero(counts)
        weight = np.divide(len(train.labels), present * counts, where=counts > 0, out=np.ones(n_classes))

        def dataset(cases: Labelled, reference: Any = None) -> Any:
            x = joined(cases.inputs, cls.READS)
            by_case = weight[cases.labels]
            return lightgbm.Dataset(x, cases.labels, weight=by_case, reference=reference, free_raw_data=False)

        parameters = {
            "objective": "multiclass",
            "num_class": n_classes,
            "metric": "multi_logloss",
            "learning_rate": config.learning_rate,
            "num_leaves": config.num_leaves,
            "min_data_in_leaf": config.min_leaf,
            "lambda_l2": config.l2,
            "feature_fraction": config.feature_fraction,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": config.threads,
            "verbosity": -1,
        }
        rows = dataset(train)
        watched: list[Any] = []
        stop: list[Callable[..., Any]] = []
        if len(validation.labels):
            watched = [dataset(validation, rows)]
            stop = [lightgbm.early_stopping(config.patience, verbose=False)]
        booster = lightgbm.train(parameters, rows, config.rounds, valid_sets=watched, callbacks=stop)
        booster.free_dataset()
        kept = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration or -1))
        return cls(kept, widths_of(train.inputs, cls.READS))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`."""
        import json

        import lightgbm

        widths = json.loads((folder / "lightgbm.json").read_text(encoding="utf-8"))["widths"]
        content = (folder / "lightgbm.txt").read_bytes()
        trees = checked_trees(content)
        if trees.columns != sum(widths.values()):
            raise ValueError(f"trees of {trees.columns} columns, and inputs of {sum(widths.values())}")
        try:
            return cls(lightgbm.Booster(model_str=trees.text), widths, content)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(f"LightGBM does not read it: {error}") from None

    def predict(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, K) log-probabilities, eq. 1."""
        z = np.asarray(self.booster.predict(joined(batch, self.READS), raw_score=True), dtype=np.float64)
        return log_softmax(z)

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Eq. 3 by LightGBM's own exact TreeSHAP."""
        x = joined(batch, self.READS)
        phi = np.asarray(self.booster.predict(x, pred_contrib=True), dtype=np.float64)
        phi = phi.reshape(len(x), -1, x.shape[1] + 1)
        return {"bias": phi[:, :, -1:], **by_input(phi[:, :, :-1], self.widths)}

    def save(self, folder: Path) -> None:
        """``lightgbm.txt`` (LightGBM's text format) and ``lightgbm.json``."""
        import json

        write_atomic(folder / "lightgbm.txt", self.file or self.booster.model_to_string().encode())
        write_atomic(folder / "lightgbm.json", json.dumps({"widths": dict(self.widths)}).encode())


MODEL = Trees
