"""Ensemble: frozen features at two scales and metadata with products, each read by a convex expert, joined as log odds.

Paper:
    None of its own. Product of experts: G. E. Hinton, "Training products of experts by minimizing contrastive
    divergence", Neural Computation 14(8), 2002, doi 10.1162/089976602760128018, with experts that are each fitted by
    themselves. Weights fitted to cross-fitted answers: D. H. Wolpert, "Stacked generalization", Neural Networks 5(2),
    1992, doi 10.1016/S0893-6080(05)80023-1; L. Breiman, "Stacked regressions", Machine Learning 24, 1996, doi
    10.1007/BF00117832, from whom the weights of at least 0 come. Features: ``skinkit.models.frozen_probe``.

Idea:
    A network that learns photo and metadata together soon overfits its few training photos, and then nothing teaches it
    to weigh the metadata. An expert that reads one of both alone is a convex problem with one solution. Where photo and
    metadata are independent given the class, the log odds of both add up; where they are not, weights learnt on answers
    for patients that the experts have not seen say how much of each counts.

Equations:
    (1) e_v(x) = 1/4 sum over {v x, turned by 90 degrees, both mirrored} of [GAP(F_2); GAP(F_3); GAP(F_4); max(F_4)]
    (2) h_v(x) = W_v (r(e_v) - mean) / sd + b_v,   r(a) = sqrt(a + d) - sqrt(d),   r(-a) = -r(a)        v: whole, middle
    (3) g(M) = V phi(M) + c,   phi(M) = [m; rho m_i m_j for i <= j],   m = 2 tanh((M - mu) / 2 sigma)
    (4) min over W, b:  1/2 |W|^2 - C sum_i n/(K n_{y_i}) log softmax(h(x_i))_{y_i}; V, c likewise, each case once for
        each way in which some of its metadata are hidden, weighted by how often that counts
    (5) log p = log softmax(o + sum_m w_m s_m),   w_m >= 0           s_m: h_v, g and, of other models, log p_m (members)
    (6) min over w, o:  class-balanced log loss of eq. 5 + lambda |o|^2 on training rows, s_m fitted to other patients'
        rows (5 folds); C of each expert is the one of :data:`PENALTIES` whose s_m has the best macro AUROC there
    (7) with members: w and o of eq. 5 on training rows that no member and no expert has learnt from, their loss plus
        lambda |w - w^0|^2 + lambda |o - o^0|^2,   w^0, o^0: of eq. 6; 1 / M for each of M members
    (8) q = prod_m q_m^w_m                       q_m: class shares for which the answers of a member hold; q: those of p

Shapes:
    image uint8 (n, 1.5 S, 1.5 S, 3), of which the middle S x S and the whole reduced to S x S are read; e_v
    (n, 2712) for EfficientNet-Lite0; attributes M (n, a), radiomics (n, r); s_m, p (n, K).

Departures:
    o is there because a rare class is separated too well where it is learnt: for other patients its scores are too low.
    C, w and o are chosen on training rows. What is fixed (views, rho, lambda, the C that are tried) was chosen on
    PAD-UFES-20. Radiomic features, where they are read, are a further expert like eq. 3 without products. d = 0.01
    bounds the root's slope, which is infinite at 0. A class without a training row gets probability 0.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tensors import load_tensors
from skinkit.errors import ConfigError
from skinkit.models.parts.frozen import FrozenReader, Head
from skinkit.models.parts.inputs import HiddenAttributes, HiddenBlock, by_member, member_contributions, refuse_hidden
from skinkit.models.parts.protocol import MEMBERS, Frozen, Labelled
from skinkit.stats.metrics import Floats, macro_auroc
from skinkit.stats.regression import balanced_path, log_probabilities

if TYPE_CHECKING:
    import torch

_FRAME, _MIDDLE = 6, 4
"""Sides of the photo and of its middle, as whole numbers: the middle has two thirds of the side, because lesions are
photographed into the middle. Multiples of both that leave an even difference lay the maps of both on one grid."""
PENALTIES: Mapping[str, tuple[float, ...]] = {
    "image": (1e-3, 3e-3, 1e-2),
    "attributes": (0.02, 0.06, 0.2),
    "radiomics": (0.01, 0.1),
}
"""Input -> the C of eq. 4 that are tried, the strongest penalty first."""
FOLDS = 5
_WIDEST = 2.0
"""Bound of m: products with a lesion of ten times the usual diameter would speak for that case alone."""
_LEAST_SD = 0.2
"""A column that is almost always the same must not become the loudest by being standardised."""
_STEEP = 0.01
"""d of eq. 2."""
_TOWARDS = 0.01
"""lambda: offsets and weights of few rows stay near what is known without them."""
_TINY = 1e-12


@dataclass(frozen=True)
class Config:
    """Options of the ensemble."""

    backbone: Frozen = "timm/tf_efficientnet_lite0"
    side_px: Annotated[int, "side of the squares that it reads, pixels"] = 224
    whole: Annotated[bool, "expert of the whole photo"] = True
    middle: Annotated[bool, "expert of the middle of the photo"] = True
    metadata: Annotated[bool, "expert of the attributes"] = True
    interactions: Annotated[float, "rho of eq. 3: weight of the products of two attributes; 0 for none"] = 0.15
    hidden_block: HiddenBlock = 0.3
    hidden: HiddenAttributes = 0.15
    weights: Annotated[Literal["fitted", "equal"], "of the experts: eq. 6, or 1 each"] = "fitted"

    def __post_init__(self) -> None:
        refuse_hidden(self.hidden_block, self.hidden)
        if self.interactions < 0 or self.side_px < 32:
            found = f"interactions = {self.interactions}, side_px = {self.side_px}"
            raise ConfigError(found, "interactions of at least 0 and a side of at least 32 px", "correct the settings")


# ----------------------------------------------------------------------------------------------------- the photo
def _views(config: Config) -> Any:
    """The network of eq. 1 with untrained weights."""
    import torch
    import torch.nn.functional as functional
    from PIL import Image
    from torch import nn

    from skinkit.models.parts.backbone import Backbone

    side, outer = config.side_px, config.side_px * _FRAME // _MIDDLE
    at = (outer - side) // 2

    class Views(nn.Module):
        """Eq. 1."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = Backbone(config.backbone, side)
            self.last = nn.Identity()
            self.width = 2 * (sum(self.backbone.widths[-3:]) + self.backbone.widths[-1])
            self.eval().requires_grad_(False)
            self.to(memory_format=torch.channels_last)

        @property
        def net(self) -> nn.Module:
            """The network under its library's names."""
            return self.backbone.net

        def prepare(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            return np.array(Image.fromarray(rgb).resize((outer, outer), Image.Resampling.BILINEAR))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """uint8 (n, outer, outer, 3) -> float32 (n, width of both views)."""
            x = images.permute(0, 3, 1, 2).float() / 255
            whole = functional.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)
            middle = x[..., at : at + side, at : at + side]
            maps = [self._maps(view) for view in (whole, middle)]
            lasts = [of_view[-1] for of_view in maps]
            if torch.is_grad_enabled():
                lasts = self._on_one_grid(lasts)
            return torch.cat([self._pooled([*m[:-1], last]) for m, last in zip(maps, lasts, strict=True)], 1)

        def _maps(self, view: torch.Tensor) -> list[torch.Tensor]:
            """Maps of the last three stages, (4, n, width, h, w): of the four versions, each turned back."""
            x = torch.cat([view, view.rot90(1, (2, 3))])
            x = torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last)
            out = []
            for m in self.backbone(x)[-3:]:
                upright, turned, mirrored, both = m.float().chunk(4)
                straight = (upright, turned.rot90(-1, (2, 3)), mirrored.flip(3), both.flip(3).rot90(-1, (2, 3)))
                out.append(torch.stack(straight))
            return out

        def _on_one_grid(self, lasts: list[torch.Tensor]) -> list[torch.Tensor]:
            """The last maps, passed through ``last`` as channels of one grid over the photo, for Grad-CAM.

            Each place is repeated, which changes neither mean nor maximum.
            """
            h, w = lasts[0].shape[-2:]
            laid = []
            for m, k in zip(lasts, (_FRAME, _MIDDLE), strict=True):
                y, x = h * (_FRAME - k) // 2, w * (_FRAME - k) // 2
                repeated = m.repeat_interleave(k, -2).repeat_interleave(k, -1)
                laid.append(functional.pad(repeated, (x, x, y, y)).transpose(0, 1).flatten(1, 2))
            grid = self.last(torch.cat(laid, 1))
            out = []
            for part, m, k in zip(grid.chunk(2, 1), lasts, (_FRAME, _MIDDLE), strict=True):
                y, x = h * (_FRAME - k) // 2, w * (_FRAME - k) // 2
                inside = part[..., y : y + k * h, x : x + k * w]
                out.append(inside.unflatten(1, (4, m.shape[2])).transpose(0, 1))
            return out

        def _pooled(self, maps: list[torch.Tensor]) -> torch.Tensor:
            """(n, width) e_v of the maps of a view."""
            pooled = [*(m.mean((3, 4)) for m in maps), maps[-1].amax((3, 4))]
            return torch.cat(pooled, 2).mean(0)

    return Views()


# --------------------------------------------------------------------------------------------------- the experts
@dataclass(frozen=True)
class ExpertInput:
    """What an expert reads.

    Attributes:
        name: of the expert.
        input: it reads from.
        start: first of its columns.
        stop: after the last of them.
        root: whether the signed root of eq. 2 is taken.
        interactions: rho of eq. 3; 0 leaves the products out.
    """

    name: str
    input: str
    start: int
    stop: int
    root: bool = False
    interactions: float = 0.0

    def columns(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, stop - start) of the input, after its root."""
        x: Floats = batch[self.input][:, self.start : self.stop].astype(np.float64)
        return np.sign(x) * (np.sqrt(np.abs(x) + _STEEP) - math.sqrt(_STEEP)) if self.root else x


@dataclass(frozen=True)
class Expert:
    """A fitted expert: s = phi W^T + b.

    Attributes:
        reads: what it reads.
        mean: (columns,) of the columns in training.
        sd: (columns,) likewise.
        weight: (K, columns of phi) W of eq. 2 or V of eq. 3, the products last.
        bias: (K,) b or c.
    """

    reads: ExpertInput
    mean: Floats
    sd: Floats
    weight: Floats
    bias: Floats

    @classmethod
    def fit(cls, reads: ExpertInput, train: CaseVersions, n_classes: int, penalties: Sequence[float]) -> list[Self]:
        """Eq. 4 for each C, on cases in all their versions."""
        first = reads.columns(train.versions[0])
        mean, sd = first.mean(0), first.std(0)
        sd = np.where(sd < _TINY, 1.0, sd) if reads.root else np.maximum(sd, _LEAST_SD)
        blank = cls(reads, mean, sd, np.zeros((n_classes, 0)), np.zeros(n_classes))
        rows, labels, weights = train.rows_of(reads)
        path = balanced_path(blank.phi(rows), labels, n_classes, penalties, weights)
        return [dataclasses.replace(blank, weight=weight, bias=bias) for weight, bias in path]

    def phi(self, x: Floats) -> Floats:
        """(n, columns of phi) of (n, columns) after their root."""
        m = (x - self.mean) / self.sd
        if self.reads.root:
            return m
        m = _WIDEST * np.tanh(m / _WIDEST)
        if not self.reads.interactions:
            return m
        first, second = np.triu_indices(m.shape[1])
        out: Floats = np.concatenate([m, self.reads.interactions * m[:, first] * m[:, second]], 1)
        return out

    def scores(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, K) s."""
        out: Floats = self.phi(self.reads.columns(batch)) @ self.weight.T + self.bias
        return out

    def parts(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, K, columns) what each column adds to s without b; half of a product is each of its columns'."""
        phi, columns = self.phi(self.reads.columns(batch)), len(self.mean)
        added = phi[:, None, :] * self.weight[None]
        parts: Floats = added[:, :, :columns].copy()
        if added.shape[2] > columns:
            first, second = np.triu_indices(columns)
            for j in range(columns):
                of_column = (first == j) * 0.5 + (second == j) * 0.5
                parts[:, :, j] += added[:, :, columns:] @ of_column
        return parts


@dataclass(frozen=True)
class CaseVersions:
    """Training cases in their versions: as they are, without the patient block, without any attribute.

    Attributes:
        versions: inputs of each.
        shares: how often each counts; they sum to 1.
        labels: (n,) class indices.
    """

    versions: tuple[Mapping[str, np.ndarray], ...]
    shares: tuple[float, ...]
    labels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, config: Config, train: Labelled) -> Self:
        """The training cases; versions that hide nothing are left out."""
        hidden = {"block_hidden": config.hidden_block, "all_hidden": config.hidden}
        hidden = {name: share for name, share in hidden.items() if share and name in train.inputs}
        known = {name: train.inputs[name] for name in Ensemble.READS}
        versions = [known, *({**known, "attributes": train.inputs[name]} for name in hidden)]
        return cls(tuple(versions), (1 - sum(hidden.values()), *hidden.values()), train.labels)

    def part(self, rows: npt.NDArray[np.int64]) -> CaseVersions:
        """Some of the cases."""
        versions = tuple({name: values[rows] for name, values in inputs.items()} for inputs in self.versions)
        return CaseVersions(versions, self.shares, self.labels[rows])

    def rows_of(self, reads: ExpertInput) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
        """What an expert reads of all versions, its labels, and weights; rows that are the same count once, more."""
        if reads.input != "attributes":
            return reads.columns(self.versions[0]), self.labels, np.ones(len(self.labels))
        rows = np.concatenate([reads.columns(inputs) for inputs in self.versions])
        labelled = np.column_stack([rows, np.tile(self.labels, len(self.versions))])
        once, inverse = np.unique(labelled, axis=0, return_inverse=True)
        counted = np.repeat(self.shares, len(self.labels))
        weights: Floats = np.bincount(inverse.ravel(), counted, minlength=len(once)).astype(np.float64)
        return once[:, :-1], once[:, -1].astype(np.int64), weights


# -------------------------------------------------------------------------------------------------- the ensemble
@dataclass(frozen=True)
class Ensemble(FrozenReader):
    """A fitted ensemble.

    Attributes:
        config: its options.
        experts: one after the other.
        weights: (experts + members,) w of eq. 5.
        offsets: (K,) o of eq. 5.
        penalties: C of each expert.
    """

    TASK = "classify"
    READS = ("image", "attributes", "radiomics")
    CONFIG = Config
    STEEP = _STEEP
    REPEATS = _FRAME
    JOINS = True

    config: Config
    experts: tuple[Expert, ...]
    weights: Floats
    offsets: Floats
    penalties: tuple[float, ...]

    @classmethod
    def network(cls, config: Config) -> Any:
        """Eq. 1."""
        return _views(config)

    @classmethod
    def embedding_key(cls, config: Config) -> dict[str, Any]:
        """What decides eq. 1 beside the weights."""
        return {"backbone": config.backbone, "side_px": config.side_px}

    @classmethod
    def fit(cls, config: Config, train: Labelled, validation: Labelled, *, n_classes: int, seed: int) -> Self:
        """Eqs. 4 to 6 on the training rows; validation rows are not read.

        Raises:
            ConfigError: no expert is left.
        """
        readings = _readings(config, train.inputs)
        members = _answers_of(train.inputs, n_classes)
        if not readings:
            raise ConfigError(
                "no expert: neither whole nor middle, and no metadata",
                "at least one of them",
                "leave whole, middle and metadata as they are, or give --attributes auto",
            )
        every = CaseVersions.of(config, train)
        known = ~np.isnan(members).any(axis=(1, 2)) if members.shape[1] else np.zeros(len(train.labels), dtype=bool)
        own = np.arange(len(train.labels)) if known.all() else np.flatnonzero(~known)
        cases = every.part(own)
        folds = _folds(cases.labels, None if train.groups is None else train.groups[own], seed)
        penalties, answers = [], []
        for reads in readings:
            best, of_best = _crossed(reads, cases, folds, n_classes)
            penalties.append(best)
            answers.append(of_best)
        weights, offsets = np.ones(len(readings)), np.zeros(n_classes)
        if config.weights == "fitted" and folds:
            weights, offsets = _fitted(np.stack(answers, -1), cases, weights, offsets)
        chosen = list(zip(readings, penalties, strict=True))
        if n := members.shape[1]:
            weights = np.append(weights, np.full(n, 1 / n))
            if config.weights == "fitted":
                unlearnt = every.part(np.flatnonzero(known))
                if known.all():  # then the experts' cross-fitted answers are for the same rows
                    scores = np.stack([of_expert[0] for of_expert in answers], -1)
                else:
                    fitted = [Expert.fit(r, cases, n_classes, [c])[0] for r, c in chosen]
                    scores = np.stack([expert.scores(unlearnt.versions[0]) for expert in fitted], -1)
                weights, offsets = _joined(scores, unlearnt, members[known], weights, offsets)
        experts = [Expert.fit(r, every, n_classes, [c])[0] for r, c in chosen]
        return cls(config, tuple(experts), weights, offsets, tuple(penalties))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`."""
        about = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
        tensors = load_tensors(folder / "ensemble.safetensors")
        experts = [
            Expert(ExpertInput(**reads), **{part: tensors[f"{reads['name']}.{part}"] for part in _PARTS})
            for reads in about["experts"]
        ]
        weights, offsets = (np.array(about[name], dtype=np.float64) for name in ("weights", "offsets"))
        return cls(Config(**about["config"]), tuple(experts), weights, offsets, tuple(about["penalties"]))

    def save(self, folder: Path) -> None:
        """``ensemble.safetensors`` and ``ensemble.json``."""
        from safetensors.numpy import save

        parts = [(f"{e.reads.name}.{part}", getattr(e, part)) for e in self.experts for part in _PARTS]
        tensors = {name: np.ascontiguousarray(values) for name, values in parts}
        write_atomic(folder / "ensemble.safetensors", save(tensors))
        about = {
            "config": dataclasses.asdict(self.config),
            "experts": [dataclasses.asdict(expert.reads) for expert in self.experts],
            "weights": self.weights.tolist(),
            "offsets": self.offsets.tolist(),
            "penalties": self.penalties,
        }
        write_atomic(folder / "ensemble.json", json.dumps(about, indent=1).encode())

    def predict(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, K) log-probabilities, eq. 5."""
        total: Floats = np.sum([w * e.scores(batch) for w, e in self._weighted], axis=0)
        return log_probabilities(self.offsets + total + np.einsum("m,nmk->nk", self._of_members, self._answers(batch)))

    def member_weights(self) -> Floats:
        """(members,) the last w of eq. 5."""
        return self.weights[len(self.experts) :]

    def effective_class_prior(self, n_classes: int, members: np.ndarray | None = None) -> np.ndarray | None:
        """Eq. 8; that of the experts is even."""
        if members is None:
            return super().effective_class_prior(n_classes)
        prior: Floats = np.prod(members ** self._of_members[:, None], axis=0)
        return prior

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What each column adds to the scores; of the photo in one piece. Exact, because eq. 5 is linear in phi."""
        n, classes = len(next(iter(batch.values()))), len(self.experts[0].bias)
        parts = {
            name: np.zeros((n, classes, 1 if name == "image" else batch[name].shape[1]))
            for name in self.READS
            if name in batch
        }
        bias = np.tile(self.offsets[None, :, None], (n, 1, 1))
        for w, expert in self._weighted:
            reads, own = expert.reads, w * expert.parts(batch)
            if reads.input == "image":
                parts["image"] += own.sum(2, keepdims=True)
            else:
                parts[reads.input][:, :, reads.start : reads.stop] += own
            bias += w * expert.bias[None, :, None]
        if len(self._of_members):
            parts[MEMBERS] = member_contributions(self._answers(batch), self._of_members)
        return {**parts, "bias": bias}

    def shares(self, batch: Mapping[str, np.ndarray]) -> dict[str, Floats]:
        """Expert, or place of a member -> (n, K) what it adds to the scores."""
        of_experts = {expert.reads.name: w * expert.scores(batch) for w, expert in self._weighted}
        answers = self._of_members[:, None] * self._answers(batch)
        return {**of_experts, **{f"member_{m}": answers[:, m] for m in range(answers.shape[1])}}

    def features(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, columns) phi of all experts and the answers of members, weighted as eq. 5 weights them."""
        answers = self._of_members[:, None] * self._answers(batch)
        own = [w * e.phi(e.reads.columns(batch)) for w, e in self._weighted]
        return np.concatenate([*own, answers.reshape(len(answers), -1)], 1)

    @property
    def _weighted(self) -> Iterator[tuple[float, Expert]]:
        return zip(self.weights[: len(self.experts)].tolist(), self.experts, strict=True)

    @property
    def _of_members(self) -> Floats:
        """(members,) their weights."""
        return self.weights[len(self.experts) :]

    def _answers(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, members, K) what the members answer."""
        answers = _answers_of(batch, len(self.experts[0].bias))
        return answers if len(self._of_members) else answers[:, :0]

    def head(self, embedder: Any, offset: Floats, temperature: float) -> Head:
        """The weighted experts of both views side by side; zeros where there is none."""
        weight, mean, sd = np.zeros((len(offset), embedder.width)), np.zeros(embedder.width), np.ones(embedder.width)
        for w, e in self._weighted:
            if e.reads.input == "image":
                place = slice(e.reads.start, e.reads.stop)
                weight[:, place], mean[place], sd[place] = w * e.weight, e.mean, e.sd
        return Head(weight, mean, sd, offset, temperature)


_PARTS = ("mean", "sd", "weight", "bias")
_VIEWS = ("whole", "middle")
"""In the order of their features."""


def _readings(config: Config, inputs: Mapping[str, np.ndarray]) -> list[ExpertInput]:
    """The experts there are: one for each view of the photo, one for the metadata, one for radiomic features."""
    width = inputs["image"].shape[1] // 2
    views = [ExpertInput(name, "image", i * width, (i + 1) * width, root=True) for i, name in enumerate(_VIEWS)]
    readings = [view for view in views if getattr(config, view.name)]
    columns = {name: inputs[name].shape[1] for name in ("attributes", "radiomics")}
    if config.metadata and columns["attributes"]:
        readings.append(
            ExpertInput("metadata", "attributes", 0, columns["attributes"], interactions=config.interactions)
        )
    if columns["radiomics"]:
        readings.append(ExpertInput("radiomics", "radiomics", 0, columns["radiomics"]))
    return readings


def _answers_of(batch: Mapping[str, np.ndarray], n_classes: int) -> Floats:
    """(n, members, K) log-probabilities; no member where none is read."""
    n = len(next(iter(batch.values())))
    return by_member(batch.get(MEMBERS, np.zeros((n, 0))), n_classes)


def _folds(
    labels: npt.NDArray[np.int64], groups: np.ndarray | None, seed: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Rows to fit and rows to answer of eq. 6, all photos of a patient on one side; none where there are too few."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else groups
    n = min(FOLDS, len(np.unique(groups)))
    if n < 2:
        return []
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer cases than folds
        if np.bincount(labels).max() < n:
            return []
        dealt = list(StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(labels, labels, groups))
    return dealt if all(len(np.unique(labels[fit])) > 1 and len(answer) for fit, answer in dealt) else []


def _crossed(
    reads: ExpertInput, cases: CaseVersions, folds: Sequence[tuple[Any, Any]], n_classes: int
) -> tuple[float, Floats]:
    """The best C of an expert, and (versions, n, K) its cross-fitted answers; without folds the middle C, and zeros."""
    tried = PENALTIES[reads.input]
    answers = np.zeros((len(tried), len(cases.versions), len(cases.labels), n_classes))
    for fit, answer in folds:
        fitted, left = Expert.fit(reads, cases.part(fit), n_classes, tried), cases.part(answer)
        for place, expert in enumerate(fitted):
            for version, inputs in enumerate(left.versions):
                answers[place, version, answer] = expert.scores(inputs)
    if not folds:
        return tried[len(tried) // 2], answers[0]
    best = int(np.argmax([_macro_auroc(of_c, cases) for of_c in answers]))
    return tried[best], answers[best]


def _macro_auroc(scores: Floats, cases: CaseVersions) -> float:
    """Of (versions, n, K) scores; -1 where no class can be ranked."""
    areas = [macro_auroc(np.exp(log_probabilities(of_version)), cases.labels) for of_version in scores]
    mean = float(np.array(cases.shares) @ np.array(areas))
    return mean if mean == mean else -1.0


def _joined(
    scores: Floats, cases: CaseVersions, members: Floats, weights: Floats, offsets: Floats
) -> tuple[Floats, Floats]:
    """(experts + members,) w and (K,) o of eq. 7, of (n, K, experts) scores and (n, members, K) answers.

    Members have answered for the cases as they are, so that no other version is read.
    """
    cases = CaseVersions(cases.versions[:1], (1.0,), cases.labels)
    answers = np.concatenate([scores, members.transpose(0, 2, 1)], -1)[None]
    return _fitted(answers, cases, weights, offsets, towards=weights)


def _fitted(
    answers: Floats, cases: CaseVersions, weights: Floats, offsets: Floats, towards: Floats | None = None
) -> tuple[Floats, Floats]:
    """Weights and offsets of eq. 6 or, ``towards`` w^0, of eq. 7; convex, so that any start finds the optimum.

    Args:
        answers: (versions, n, K, m) s of eq. 5.
        cases: whose they are.
        weights: (m,) to start from.
        offsets: (K,) likewise, and o^0.
        towards: (m,).
    """
    from scipy.optimize import minimize

    rows, shares, classes, m = np.arange(len(cases.labels)), np.array(cases.shares), len(offsets), len(weights)
    counts = np.bincount(cases.labels)
    alike = 1 / ((counts > 0).sum() * counts[cases.labels])  # classes count alike; sums to 1
    start = np.concatenate([weights, offsets])
    held = np.concatenate([np.zeros(m) if towards is None else np.full(m, _TOWARDS), np.full(classes, _TOWARDS)])

    def loss(w: Floats) -> tuple[float, Floats]:
        log_p = np.stack([log_probabilities(of_version) for of_version in answers @ w[:m] + w[m:]])
        value = -(shares @ log_p[:, rows, cases.labels]) @ alike + held @ (w - start) ** 2
        error = np.exp(log_p)
        error[:, rows, cases.labels] -= 1
        error *= shares[:, None, None] * alike[:, None]
        slope = np.concatenate([np.einsum("vnk,vnkm->m", error, answers, optimize=True), error.sum((0, 1))])
        return float(value), slope + 2 * held * (w - start)

    bounds = [(0, None)] * m + [(None, None)] * classes
    out = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return (out[:m], out[m:]) if out[:m].any() else (weights, offsets)


MODEL = Ensemble
