"""Objectives: what a training step makes small, as objects beside the network.

By default that is the network's own ``loss``. An objective of a trainer stands in its place: ``--objective NAME`` of
``skinkit train``, or what ``Network.objective`` answers. Its settings are its fields: ``--settings
objective.temperature=2``.

Distillation, z student's and t teacher's logits (n, K), T temperature, a share:

(1) D = T^2 mean over rows of sum_k q_k (log q_k - log p_k)     q = softmax(t / T), p = softmax(z / T)
(2) L = a D + (1 - a) H + b F                                   H: the network's own loss
(3) F = mean over rows of |P h_s - h_t|^2     h: what student and teacher make of a photo, maps averaged over places;
    P: a linear map that is learnt beside the student, nothing where both are of one width. b is 0 unless given.
    G. Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, 2015, sec. 2: T^2 keeps the
    size of the gradient where T changes.

Contrastive, u the 2 n embeddings of two varied copies of n cases, of length 1, s_ij = u_i . u_j, t temperature:

(4) L = mean over i of - 1/|P_i| sum_{p in P_i} log(exp(s_ip / t) / sum_{j != i} exp(s_ij / t))
    With P_i the other copy of the case it is NT-Xent: T. Chen et al., "A Simple Framework for Contrastive Learning of
    Visual Representations", ICML 2020, eq. 1. With P_i all others of the same class it is SupCon: P. Khosla et al.,
    "Supervised Contrastive Learning", NeurIPS 2020, eq. 2.

Masked, x a photo (n, 3, S, S) from 0 to 1, m = 1 in the hidden patches, f the network:

(5) L = sum m (f(x (1 - m)) - x)^2 / (3 sum m)
    Z. Xie et al., "SimMIM", CVPR 2022, with black pixels: all patches are read, the hidden ones as black. That an
    encoder never sees them (K. He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022) is a matter of
    the network, not of what stands beside it: the model ``mae``.
"""

from __future__ import annotations

import contextlib
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from skinkit.errors import ConfigError, did_you_mean
from skinkit.models.parts.protocol import (
    META_DOMAIN,
    PROJECTION,
    TEACHER,
    TEACHER_ENCODING,
    TRUTH,
    UNKNOWN,
    Objective,
    beside_name,
)
from skinkit.options import Help, make_config

if TYPE_CHECKING:
    import torch

_WIDEST = 4096
"""Maximum length of the pooled encoding of a photo."""


@dataclass(frozen=True)
class Distillation(Objective):
    """Eqs. 1 to 3, for classifiers; D is the mean over the tasks that teacher and student both answer."""

    TASK: ClassVar[str] = "classify"
    BESIDE: ClassVar[tuple[str, ...]] = (TEACHER,)

    temperature: Annotated[float, "T of eq. 1: higher gives improbable classes more weight"] = 4.0
    share: Annotated[float, "a of eq. 2: of the teacher's answers in the loss, 0 to 1"] = 0.5
    features: Annotated[
        float,
        Help(
            "b of eq. 2: of the squared distance, summed over the width, to what the teacher makes of the photo",
            if_given=True,
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        good = self.temperature > 0 and 0 <= self.share <= 1 and self.features >= 0
        _check(self, good, "temperature above 0, share from 0 to 1, features of at least 0")

    def reads(self) -> tuple[str, ...]:
        """The teacher's answers, and with b what it makes of the photo."""
        return (*self.BESIDE, TEACHER_ENCODING) if self.features else self.BESIDE

    def prepare(self, network: Any, widths: Mapping[str, int]) -> None:
        """Give the student P of eq. 3, where it is needed."""
        from torch import nn

        if not self.features:
            return
        own, theirs = pooled(network.reference_embedding[None]).shape[1], widths[TEACHER_ENCODING]
        if own != theirs:
            network.add_module(PROJECTION, nn.Linear(own, theirs, bias=False))

    def finish(self, network: Any) -> None:
        """P of eq. 3 is no part of the student."""
        if hasattr(network, PROJECTION):
            delattr(network, PROJECTION)

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 2; rows that the teacher could not answer count for H alone."""
        import torch

        nothing: list[torch.Tensor] = []
        watched: contextlib.AbstractContextManager[list[torch.Tensor]] = contextlib.nullcontext(nothing)
        if self.features:
            watched = _heads_watched(network)
        with watched as encoded:
            own, answers = _own_loss(network, batch)
        tasks = [task for task in answers if beside_name(TEACHER, task) in batch]
        terms = [self.distance(answers[task].float(), batch[beside_name(TEACHER, task)]) for task in tasks]
        loss = self.share * torch.stack(terms).mean() + (1 - self.share) * own  # eq. 2
        if self.features and TEACHER_ENCODING in batch:
            loss = loss + self.features * self.feature_distance(network, encoded, batch)
        return loss

    def feature_distance(
        self, network: Any, encoded: list[torch.Tensor], batch: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Eq. 3 over the rows whose teacher's encoding is no NaN; 0 where there is none.

        Args:
            network: the student.
            encoded: what its pass over the batch has encoded, if it is known.
            batch: with the teacher's.
        """
        import torch

        teacher = batch[TEACHER_ENCODING]
        width = pooled(network.reference_embedding[None]).shape[1]
        whole = (h for h in map(pooled, encoded) if h.shape[1] == width)
        student = next(whole, None)
        student = pooled(network.encode(batch)) if student is None else student
        if hasattr(network, PROJECTION):
            student = getattr(network, PROJECTION)(student)
        known = ~teacher.isnan().any(1)
        by_row = (student.float() - teacher.nan_to_num()).square().sum(1)
        return torch.where(known, by_row, 0).sum() / known.sum().clamp(min=1)  # eq. 3

    def distance(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Eq. 1 of logits (n, K), over the rows whose teacher's are no NaN; 0 where there is none."""
        import torch
        import torch.nn.functional as functional

        known = ~teacher.isnan().any(1)
        q = (teacher.nan_to_num() / self.temperature).softmax(1)
        log_p = (student / self.temperature).log_softmax(1)
        by_row = functional.kl_div(log_p, q, reduction="none").sum(1)
        return self.temperature**2 * torch.where(known, by_row, 0).sum() / known.sum().clamp(min=1)  # eq. 1


@dataclass(frozen=True)
class Contrastive(Objective):
    """Eq. 4 without labels, for pretrainings whose forward pass answers ``embedding`` (n, width)."""

    TASK: ClassVar[str] = "pretrain"
    COPIES: ClassVar[int] = 2

    temperature: Annotated[float, "t of eq. 4"] = 0.1

    def __post_init__(self) -> None:
        _check(self, self.temperature > 0, "temperature above 0")

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 4: the positive of each row is the other copy of its case."""
        import torch

        embedding = _answered(self, network, network(batch), "embedding")
        cases = torch.arange(len(embedding), device=embedding.device) % (len(embedding) // self.COPIES)
        return contrastive_loss(embedding, cases, self.temperature)


@dataclass(frozen=True)
class DomainContrastive(Contrastive):
    """Eqs. 2 to 4 of the model meta_contrast, for pretrainings that read the class and the meta-domain of each view."""

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Positives: the other view, and the same class from another meta-domain."""
        import torch

        answers = network(batch)
        embedding = answers["embedding"]
        cases = torch.arange(len(embedding), device=embedding.device) % (len(embedding) // self.COPIES)
        classes, domains = batch[TRUTH], batch.get(META_DOMAIN, cases)
        loss = domain_contrastive_loss(embedding, cases, classes, domains, self.temperature)
        out: torch.Tensor = loss + answers["beside"] if "beside" in answers else loss
        return out


@dataclass(frozen=True)
class SupervisedContrastive(Objective):
    """The network's own loss and, with a share, eq. 4 of what it encodes, for classifiers."""

    TASK: ClassVar[str] = "classify"
    COPIES: ClassVar[int] = 2

    temperature: Annotated[float, "t of eq. 4"] = 0.1
    share: Annotated[float, "of eq. 4 in the loss, 0 to 1; the rest is the network's own"] = 0.5

    def __post_init__(self) -> None:
        _check(self, self.temperature > 0 and 0 <= self.share <= 1, "temperature above 0, share from 0 to 1")

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The positives of a row are the others of its class; the encoding is averaged over places."""
        encoded = network.encode(batch)
        encoded = encoded.mean((2, 3)) if encoded.ndim == 4 else encoded.flatten(1)
        compared = contrastive_loss(encoded, batch[TRUTH], self.temperature)
        out: torch.Tensor = self.share * compared + (1 - self.share) * network.loss(batch)
        return out


@dataclass(frozen=True)
class Masked(Objective):
    """Eq. 5, for pretrainings whose forward pass answers each photo they read, filled in, under its name."""

    TASK: ClassVar[str] = "pretrain"

    patch_px: Annotated[int, "side of a patch, pixels"] = 16
    share: Annotated[float, "of the patches that are hidden, above 0 to below 1"] = 0.6

    def __post_init__(self) -> None:
        _check(self, self.patch_px >= 1 and 0 < self.share < 1, "patch_px from 1, share above 0 to below 1")

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 5, the mean over the photos that the network reads."""
        import torch

        photos = {name: batch[name] for name in network.READS if name.startswith("image")}
        hidden = {name: self.hidden(photo) for name, photo in photos.items()}
        covered = {name: photo * (1 - hidden[name]) for name, photo in photos.items()}
        filled = network(ChainMap(covered, cast("Any", batch)))  # of the batch only what the network asks for is read
        return torch.stack(
            [_error(_answered(self, network, filled, name).float(), photos[name], hidden[name]) for name in photos]
        ).mean()

    def hidden(self, photo: torch.Tensor) -> torch.Tensor:
        """The m of eq. 5, float32 (n, 1, S, S): of every photo the same number of patches, at least one, at random."""
        import torch

        n, _, *sides = photo.shape
        rows, columns = (-(-side // self.patch_px) for side in sides)
        patches = max(1, min(rows * columns - 1, round(self.share * rows * columns)))
        order = torch.rand(n, rows * columns, device=photo.device).argsort(1)
        chosen = (order.argsort(1) < patches).float().view(n, 1, rows, columns)
        whole = chosen.repeat_interleave(self.patch_px, 2).repeat_interleave(self.patch_px, 3)
        return whole[:, :, : sides[0], : sides[1]]


OBJECTIVES: dict[str, type[Objective]] = {
    "distillation": Distillation,
    "supervised_contrastive": SupervisedContrastive,
    "contrastive": Contrastive,
    "masked": Masked,
}
"""Names for ``--objective``."""


def objective_of(name: str, settings: Mapping[str, Any]) -> Objective:
    """An objective with these settings.

    Raises:
        ConfigError: no objective of that name, an unknown setting or an impossible value.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"no objective {name!r}", did_you_mean(name, OBJECTIVES), "correct --objective")
    return make_config(OBJECTIVES[name], settings, where="--settings objective")


def contrastive_loss(embedding: torch.Tensor, names: torch.Tensor, temperature: float) -> torch.Tensor:
    """Eq. 4, as a scalar; a row without a positive is left out.

    Args:
        embedding: (rows, width), of any length but 0.
        names: (rows,) int64; rows of the same name are each other's positives, those of -1 have none.
        temperature: t.
    """
    positive = (names[:, None] == names[None]) & (names != UNKNOWN)
    return _contrasted(embedding, positive, ~positive, temperature)


def domain_contrastive_loss(
    embedding: torch.Tensor, cases: torch.Tensor, classes: torch.Tensor, domains: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Eq. 4 of meta_contrast, as a scalar; a row without a positive is left out.

    Args:
        embedding: (rows, width), of any length but 0.
        cases: (rows,) int64; equal for the views of one case.
        classes: (rows,) int64, -1 where unknown.
        domains: (rows,) int64, the meta-domain of each view.
        temperature: t.
    """
    view = cases[:, None] == cases[None]
    alike = (classes[:, None] == classes[None]) & (classes != UNKNOWN)
    positive = view | (alike & (domains[:, None] != domains[None]))  # eq. 2
    return _contrasted(embedding, positive, ~view & ~alike, temperature)  # eq. 3


def _contrasted(
    embedding: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Eq. 4 with these pairs: -log of each positive's share among its row's positives and negatives.

    Args:
        embedding: (rows, width).
        positive: (rows, rows) bool; a row is no pair with itself, whatever it says.
        negative: (rows, rows) bool, of other pairs.
        temperature: t.
    """
    import torch
    from pytorch_metric_learning.losses import SupConLoss

    others = ~torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
    pairs = (*(positive & others).nonzero(as_tuple=True), *(negative & others).nonzero(as_tuple=True))
    loss: torch.Tensor = SupConLoss(temperature=temperature)(embedding.float(), indices_tuple=pairs)
    return loss


def pooled(encoded: torch.Tensor) -> torch.Tensor:
    """(n, width) encoding of n pictures: maps are averaged over positions, other shapes over neighbouring values."""
    import torch.nn.functional as functional

    if encoded.ndim == 4:
        return encoded.mean((2, 3))
    flat = encoded.flatten(1).float()
    return functional.adaptive_avg_pool1d(flat[:, None], min(flat.shape[1], _WIDEST))[:, 0]


@contextlib.contextmanager
def _heads_watched(network: Any) -> Iterator[list[torch.Tensor]]:
    """What a classifier hands to its head meanwhile, so that it need not encode the photos again."""
    encoded: list[torch.Tensor] = []
    head = network.head

    def watched(seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> Any:
        encoded.append(seen)
        return head(seen, batch)

    network.head = watched
    try:
        yield encoded
    finally:
        del network.head


def _own_loss(network: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """The network's own loss and its answers, of one forward pass where its loss makes one."""
    passes: list[Mapping[str, torch.Tensor]] = []
    watching = network.register_forward_hook(lambda _module, _inputs, answers: passes.append(answers))
    try:
        own = network.loss(batch)
    finally:
        watching.remove()
    return own, passes[-1] if passes else network(batch)


def _answered(objective: Objective, network: Any, answers: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """One of the answers of a pretraining; :class:`ConfigError` where it gives others."""
    if name not in answers:
        named = next(each for each, kind in OBJECTIVES.items() if isinstance(objective, kind))
        raise ConfigError(
            f"the objective {named} for {type(network).__name__}, which answers {', '.join(sorted(answers))}",
            f"a pretraining that answers {name!r}",
            "leave --objective out, or choose another model",
        )
    return answers[name]


def _error(filled: torch.Tensor, photo: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    return ((filled - photo).square() * hidden).sum() / (photo.shape[1] * hidden.sum())  # eq. 5


def _check(objective: Any, good: bool, expected: str) -> None:
    if not good:
        values = ", ".join(f"objective.{name} = {value}" for name, value in vars(objective).items())
        raise ConfigError(values, expected, "correct --settings")
