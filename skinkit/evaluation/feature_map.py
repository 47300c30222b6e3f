"""A two-dimensional map of a classifier's features, and the class purity of nearest neighbours, which a map distorts.

t-SNE (L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008), started from the first two
principal components, so that the same features give the same map and its global structure is preserved (D.
Kobak and P. Berens, Nature Communications 10, 2019, doi 10.1038/s41467-019-13056-x). Distances in such a map are not
distances in the features: purity is computed in the feature space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from skinkit.artifacts.tables import write_table
from skinkit.schemas import Schema
from skinkit.stats.metrics import Floats

FEWEST = 5
"""Smallest number of cases for a map."""
NEIGHBOURS = 10
_COMPONENTS = 50
_MARKERS = "osD^vPX*"
TABLE = Schema("embedding", 1, ("case_id",), ())


def mapped(features: Floats, *, method: str, perplexity: float, seed: int) -> Floats:
    """(n, 2) coordinates of (n, width) features.

    Args:
        features: scaled as the classifier's last layer reads them.
        method: ``tsne``, or ``pca`` for only the first two principal components.
        perplexity: of t-SNE; at most a third of the cases is used.
        seed: of t-SNE.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # one thread: the same result on any number of cores
        x = PCA(max(1, min(_COMPONENTS, *features.shape)), svd_solver="full").fit_transform(features)
        if method == "pca" or x.shape[1] < 2:
            out = np.zeros((len(x), 2))
            out[:, : min(2, x.shape[1])] = x[:, :2]
            return out
        limit = max(1.0, min(perplexity, (len(x) - 1) / 3))
        embedding: Floats = TSNE(2, perplexity=limit, init="pca", random_state=seed, n_jobs=1).fit_transform(x)
    return np.asarray(embedding, dtype=np.float64)


def purity(features: Floats, classes: Sequence[str], neighbours: int = NEIGHBOURS) -> dict[str, dict[str, float]]:
    """For each class, the mean share of its cases' nearest neighbours that are of the same class.

    Args:
        features: (n, width).
        classes: of each case.
        neighbours: their number, without the case itself.

    Returns:
        class -> ``purity``, ``chance`` (its share of the other cases) and ``n``.
    """
    from sklearn.neighbors import NearestNeighbors

    truth, k = np.asarray(classes), min(neighbours, len(classes) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(features).kneighbors(return_distance=False)
    same = (truth[near] == truth[:, None]).mean(axis=1)
    by_class = {}
    for name in sorted(set(classes)):
        mine = truth == name
        chance = (mine.sum() - 1) / (len(truth) - 1)
        by_class[name] = {"purity": float(same[mine].mean()), "chance": float(chance), "n": int(mine.sum())}
    return by_class


def write(folder: Path, stem: str, table: pd.DataFrame, labels: Mapping[str, str]) -> dict[str, str]:
    """Write the map as SVG, PNG and Parquet; returns kind of file -> path.

    Args:
        folder: output folder.
        stem: name of the files.
        table: case_id, class, top1, x and y.
        labels: class -> words.
    """
    write_table(folder / f"{stem}.parquet", TABLE, table)
    return {"parquet": str(folder / f"{stem}.parquet"), **_draw(folder, stem, table, labels)}


def _draw(folder: Path, stem: str, table: pd.DataFrame, labels: Mapping[str, str]) -> dict[str, str]:
    """Classes by colour and shape; a ring about cases whose most probable class is another."""
    from skinkit.figures import canvas

    order = [name for name in labels if (table["class"] == name).any()]
    paint = canvas.colours(list(labels))
    with canvas.canvas(7.6, 5.0) as figure:
        axes = figure.add_subplot()
        for at, name in enumerate(order):
            rows = table[table["class"] == name]
            shape = _MARKERS[at % len(_MARKERS)]
            words = f"{labels[name]}  ({len(rows)})"
            axes.scatter(rows["x"], rows["y"], s=16, color=paint[name], marker=shape, linewidths=0, label=words)
        wrong = table[table["top1"] != table["class"]]
        axes.scatter(
            wrong["x"], wrong["y"], s=46, facecolors="none", edgecolors=canvas.ALL_COLOUR, linewidths=0.6,
            label=f"another class most probable  ({len(wrong)})",
        )  # fmt: skip
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.grid(visible=False)
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), alignment="left")
        return canvas.write(figure, folder, stem)
