"""Photo and metadata in a ResNet-50 with an uncertainty estimate: AMCR, MDFM-CAF and Monte Carlo dropout.

Paper:
    B. Wang, Q. Niu, C. She, J. Zhang, W. Gao and L. Liu, "DermaCalibra: A Robust and Explainable Multimodal Framework
    for Skin Lesion Diagnosis via Bayesian Uncertainty and Dynamic Modulation", Diagnostics 16(4), 630, 2026,
    PMC12938916. Monte Carlo dropout: Y. Gal and Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.
    Focal loss: T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, doi 10.1109/ICCV.2017.324.

Idea:
    Metadata weight each channel of the photo's maps (AMCR, MDFM) and join them as one more place to attend
    to (CAF). Cases about which passes with dropout disagree count more in the loss.

Equations:
    (1) F = layer 4 of ResNet-50 (x),   z = GAP(F)
    (2) e = Drop(ReLU(BN(W_m M + b_m)))
    (3) a = sigmoid(W_2 ReLU(W_1 [z; e])),   F' = a * F                                                 AMCR, by channel
    (4) F'' = g * F' + b,   g = 1 + W_g e,   b = W_b e                                                  MDFM, by channel
    (5) A = softmax(Q [K; K_m]^T / sqrt(d_k)) [V; V_m] W_a,   F_f = F'' + A                           CAF, several heads
        Q, K, V = X W_q, X W_k, X W_v,   K_m = W_km e,   V_m = W_vm e                          X: the places of F''
    (6) f = W_o Drop(GAP(F_f)) + b_o
    (7) p_t = softmax(f_t), t = 1 .. T with dropout,   U = mean_c Var_t(p_tc)
    (8) entropy H(mean_t p_t),   mutual information H(mean_t p_t) - mean_t H(p_t)
    (9) L = mean_i w_i alpha_{y_i} (1 - p_i)^gamma (-log p_i),   w_i = clip(1 + lambda U_i / (mean U + 1e-8), 1, 3)
                                                                                                p_i: of the true class

Shapes:
    image (n, 3, S, S), 0 to 1; F (n, 2048, S/32, S/32), with S = 224 49 places; attributes M (n, 81); e (n, 256);
    f (n, K); U, entropy and mutual information (n,). With 81 columns and 6 classes: 25.99 million parameters, 302 144
    of them in AMCR (eqs. 2 and 3).

Departures:
    The paper's numbers of d, h, T, the dropout rates, lambda and the form of w are lost; d = 256 and h = 64 give the
    0.3 million parameters reported for AMCR (the total, 23.6 million, cannot hold: ResNet-50 alone has 23.5). Dropout
    is 0.5 on e and 0.3 before the classes in training, and 0.3 for both in the T = 10 passes of eq. 7, which reuse F,
    leave BatchNorm fixed, and send no gradient into U. In use, too, the answer is the mean over T passes; their masks
    are drawn once and for all and shared by all cases, so that a case has one answer.
    Only the mean over places is needed of F_f. It is worked out without the rest of A: the mean over queries of the
    attention weights first, then the values.
    How K_m enters the attention is lost. Added to every key it would shift each row of scores by one number, which the
    softmax takes away again: so it is a further key, with a value of its own. W_g, W_b and W_a start at zero, so that
    eqs. 4 and 5 start as identity. alpha is 2 for melanoma and squamous cell carcinoma and 1 for the others, after the
    authors' code. In training the patient block of 30 % of the cases is hidden, because in PAD-UFES-20 its absence
    alone implies a benign class.
    The authors' code differs from the paper; it is a model of its own, ``derma_calibra_released``.
    ``amcr=false`` and ``fusion=false`` leave out eq. 3 with eqs. 7 to 9's U, and eqs. 4 and 5, for ablation.
    ``multi_scale`` joins the pooled layers 2 and 3 to eq. 6, ``metadata_joined`` the attributes themselves; neither is
    the paper's, and both are off by default. The preset ``quick`` turns them on, and learns by the recipe that all
    comparators have under that name. Its steps are AdamW's, which move every weight alike: at the rate of the classes
    the wide layers of eqs. 3 to 5, whose effects multiply, outweigh the photo, so they have a tenth of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models.parts.backbone import Maps
from skinkit.models.parts.class_weights import rare_class_weights
from skinkit.models.parts.losses import focal, masked
from skinkit.models.parts.photo_classifier import PhotoClassifier, PhotoConfig
from skinkit.models.parts.protocol import POSSIBLE, Phase, Removed, Sizes
from skinkit.models.parts.recipe import QUICK, PhotoRecipe, merged

_FUSION = ("squeeze.", "excite.", "scale.", "shift.", "attention.")
_HEAVIEST = 3.0
_TINY = 1e-8
_MASKS_SEED = 20260216
_ENSEMBLE = "skinkit train --model ensemble"


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of DermaCalibra; the defaults are the paper's."""

    recipe: Annotated[PhotoRecipe, "how it is trained"] = replace(
        PhotoConfig.recipe, dropped_block=0.3, snapshot_every=10
    )
    variant: Annotated[str, "always paper; the authors' code is the model derma_calibra_released"] = "paper"
    amcr: Annotated[bool, "eq. 3, and the uncertainty in answer and loss"] = True
    fusion: Annotated[bool, "eqs. 4 and 5"] = True
    embedding: Annotated[int, "d, width of e in eq. 2"] = 256
    hidden: Annotated[int, "h, width between W_1 and W_2 in eq. 3"] = 64
    key_width: Annotated[int, "width of Q, K and V in eq. 5, all heads together"] = 128
    heads: Annotated[int, "heads of eq. 5"] = 8
    metadata_dropout: Annotated[float, "Drop of eq. 2 while learning"] = 0.5
    head_dropout: Annotated[float, "Drop of eq. 6 while learning"] = 0.3
    passes: Annotated[int, "T of eq. 7"] = 10
    mc_dropout: Annotated[float, "Drop of eqs. 2 and 6 in the passes of eq. 7"] = 0.3
    focusing: Annotated[float, "gamma of eq. 9; 0 for plain cross-entropy"] = 2.0
    rare_weight: Annotated[float, "alpha of melanoma and squamous cell carcinoma in eq. 9"] = 2.0
    uncertainty_weight: Annotated[float, "lambda of eq. 9"] = 1.0
    multi_scale: Annotated[bool, "join the pooled layers 2 and 3 to eq. 6"] = False
    metadata_joined: Annotated[bool, "join M itself to eq. 6"] = False
    fusion_learning_rate: Annotated[float, "of eqs. 3 to 5, at its highest; 0 for that of the other layers"] = 0.0

    def __post_init__(self) -> None:
        if self.variant != "paper":
            raise ConfigError(
                f"variant = {self.variant!r} of derma_calibra",
                "paper; the authors' code is a model of its own",
                "train again: skinkit train --model derma_calibra_released",
            )


PRESETS: dict[str, dict[str, Any]] = {
    "dermacalibra": {},
    # Photos are few and the loss corrects for rare classes already: the focal term would weigh hard cases, and wrong
    # labels, once more.
    "quick": merged(
        QUICK,
        {
            "multi_scale": True,
            "metadata_joined": True,
            "fusion_learning_rate": 1e-4,
            "metadata_dropout": 0.3,
            "focusing": 0.0,
            "rare_weight": 1.0,
            "recipe": {"snapshot_every": 0},
        },
    ),
}


class DermaCalibra(PhotoClassifier):
    """Eqs. 1 to 9.

    Attributes:
        metadata: W_m and b_m.
        norm: BN of eq. 2.
        squeeze: W_1.
        excite: W_2.
        scale: W_g.
        shift: W_b.
        attention: eq. 5.
        output: W_o and b_o.
    """

    TASK = "classify"
    READS = ("image", "attributes")
    CONFIG = Config
    PRESETS = PRESETS
    HEATMAP = "gfa"
    REMOVED: ClassVar[Mapping[str, Removed]] = {
        **dict.fromkeys(("apart", "frozen_share", "still_share"), Removed(_ENSEMBLE, 0.0)),
        **dict.fromkeys(("metadata_c", "interactions", "frozen_c", "still_c"), Removed(_ENSEMBLE)),
    }

    alpha: torch.Tensor
    embedding_masks: torch.Tensor
    pooled_masks: torch.Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        _check(config, sizes)
        super().__init__(config, sizes)
        width, d = self.backbone.widths[-1], config.embedding
        if config.amcr or config.fusion:
            self.metadata = nn.Linear(self.columns, d)
            self.norm = nn.BatchNorm1d(d)
        if config.amcr:
            self.squeeze = nn.Linear(width + d, config.hidden)
            self.excite = nn.Linear(config.hidden, width)
        if config.fusion:
            self.scale, self.shift = _zero(nn.Linear(d, width)), _zero(nn.Linear(d, width))
            self.attention = CrossAttentionFusion(width, d, config.key_width, config.heads)
        pooled = sum(self.backbone.widths[-3:]) if config.multi_scale else width
        joined = self.columns if config.metadata_joined else 0
        self.output = nn.Linear(pooled + joined, len(sizes.answers))
        alpha = rare_class_weights(config.rare_weight, sizes) * self.class_weights
        self.register_buffer("alpha", alpha, persistent=False)
        generator = torch.Generator().manual_seed(_MASKS_SEED)
        for name, size in (("embedding_masks", d), ("pooled_masks", pooled)):
            kept = torch.rand(config.passes, 1, size, generator=generator)
            self.register_buffer(name, _scaled(kept, config.mc_dropout), persistent=False)

    def phases(self) -> tuple[Phase, ...]:
        """Eqs. 3 to 5 may have a rate of their own."""
        own = dict.fromkeys(_FUSION, self.config.fusion_learning_rate) if self.config.fusion_learning_rate else {}
        return tuple(replace(phase, rates={**phase.rates, **own}) for phase in super().phases())

    @property
    def loss_weights(self) -> torch.Tensor:
        """(K,) alpha of eq. 9."""
        return self.alpha

    def keep(self, maps: Maps) -> Maps:
        """F; with ``multi_scale`` also the pooled layers 2 and 3."""
        pooled = tuple(m.mean((2, 3)) for m in maps[-3:-1]) if self.config.multi_scale else ()
        return (maps[-1], *pooled)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 9."""
        maps, attributes = self.unpacked(self.seen(batch)), self.attributes(batch)
        c, possible = self.config, batch.get(POSSIBLE)

        def focused(f: torch.Tensor) -> torch.Tensor:
            f = f.float() + self.adjustment
            return focal(f, batch["class"], self.alpha, c.focusing, c.recipe.label_smoothing, possible)

        losses = focused(self._pass(maps, attributes))
        if not self.config.amcr:
            return losses.mean()
        with torch.no_grad():
            passes = self._passes(maps, attributes, fresh=True).float()
            u = uncertainty(masked(passes, possible))["variance"]
        return (case_weights(u, self.config.uncertainty_weight) * losses).mean()

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 1 to 6 once: ``diagnosis`` (n, K) logits; in training with the dropout of learning, else without."""
        maps, attributes = self.unpacked(self.seen(batch)), self.attributes(batch)
        return {"diagnosis": self._pass(maps, attributes)}

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 2 to 8 of what :meth:`encode` answers.

        Returns:
            ``diagnosis`` (n, K), the logarithm of the mean probability over T passes, and ``variance`` (U),
            ``entropy`` and ``mutual_information``, (n,) each; without AMCR the logits of a single pass alone.
        """
        parts, attributes = self.unpacked(seen), self.attributes(batch)
        if not self.config.amcr:
            return {"diagnosis": self._pass(parts, attributes)}
        f = self._passes(parts, attributes).float()
        mean = torch.logsumexp(functional.log_softmax(f, 2), 0) - math.log(len(f))
        return {"diagnosis": mean, **uncertainty(f)}

    def factors(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """(n, 2048) a of eq. 3 without dropout."""
        if not self.config.amcr:
            return None
        (maps, *_), e = self.unpacked(seen), self._embedded(self.attributes(batch))
        return self._recalibrated(maps.mean((2, 3)), e[None])[0]

    def _pass(self, maps: Maps, attributes: torch.Tensor) -> torch.Tensor:
        """(n, K) f of one pass with the dropout of learning."""
        c = self.config
        e = functional.dropout(self._embedded(attributes), c.metadata_dropout, self.training)
        pooled = functional.dropout(self._pooled(maps, e[None])[0], c.head_dropout, self.training)
        return self._classified(pooled, attributes)

    def _passes(self, maps: Maps, attributes: torch.Tensor, *, fresh: bool = False) -> torch.Tensor:
        """(T, n, K) f of eq. 7, with masks drawn anew for each case or the fixed ones."""
        masks = [self.embedding_masks, self.pooled_masks]
        if fresh:
            n, p = len(attributes), self.config.mc_dropout
            masks = [_scaled(torch.rand(len(m), n, m.shape[2], device=m.device), p) for m in masks]
        e = self._embedded(attributes, fixed=True) * masks[0]
        return self._classified(self._pooled(maps, e) * masks[1], attributes)

    def _classified(self, pooled: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """Logits f of eq. 6, of (..., n, width) after dropout; with ``metadata_joined`` M beside it, as it is."""
        if self.config.metadata_joined:
            pooled = torch.cat([pooled, attributes.to(pooled.dtype).expand(*pooled.shape[:-1], -1)], -1)
        return self.output(pooled)  # type: ignore[no-any-return]

    def _embedded(self, attributes: torch.Tensor, *, fixed: bool = False) -> torch.Tensor:
        """(n, d) e of eq. 2 before its dropout; ``fixed`` with the running statistics of BN, also in training."""
        if not (self.config.amcr or self.config.fusion):
            return attributes.new_zeros(len(attributes), self.config.embedding)
        x, bn = self.metadata(attributes), self.norm
        if fixed:
            x = functional.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)
        else:
            x = bn(x)
        return functional.relu(x)

    def _recalibrated(self, z: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """(T, n, 2048) a of eq. 3, of z (n, 2048) and e (T, n, d)."""
        joined = torch.cat([z.expand(len(e), -1, -1), e], 2)
        return torch.sigmoid(self.excite(functional.relu(self.squeeze(joined))))

    def _pooled(self, maps: Maps, e: torch.Tensor) -> torch.Tensor:
        """(T, n, 2048) GAP(F_f) of eqs. 3 to 5, of F (n, 2048, h, w) and e (T, n, d)."""
        x = maps[0].flatten(2).transpose(1, 2)  # (n, places, 2048)
        z = x.mean(1)
        scale = self._recalibrated(z, e) if self.config.amcr else torch.ones_like(z).expand(len(e), -1, -1)  # eq. 3
        pooled = scale * z
        if self.config.fusion:
            g, b = 1 + self.scale(e), self.shift(e)  # eq. 4
            scale, pooled = scale * g, pooled * g + b
            pooled = pooled + self.attention(x, scale, b, e)  # eq. 5
        return torch.cat([pooled, *(p.expand(len(e), -1, -1) for p in maps[1:])], 2)


def _check(config: Config, sizes: Sizes) -> None:
    """Refuse settings that cannot be, or no attributes to read."""
    if (config.amcr or config.fusion) and not sizes.columns.get("attributes"):
        raise ConfigError(
            "no attributes, which DermaCalibra weighs the photo's channels by",
            "metadata of the patients",
            "give --attributes auto, or --settings amcr=false fusion=false",
        )
    if config.passes < 2 or config.key_width % config.heads:
        found = f"passes = {config.passes}, key_width = {config.key_width}, heads = {config.heads}"
        raise ConfigError(found, "at least 2 passes, and a key_width that heads divides", "correct the settings")


class CrossAttentionFusion(nn.Module):
    """Eq. 5, pooled over the queries.

    Args:
        width: channels of F.
        embedding: width of e.
        key_width: of Q, K and V, all heads together.
        heads: how many.
    """

    def __init__(self, width: int, embedding: int, key_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key = nn.Linear(width, 2 * key_width, bias=False)
        self.value = nn.Linear(width, key_width, bias=False)
        self.metadata_key = nn.Linear(embedding, key_width, bias=False)
        self.metadata_value = nn.Linear(embedding, key_width, bias=False)
        self.out = _zero(nn.Linear(key_width, width, bias=False))

    def forward(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """(T, n, width) GAP(A) of the places X = scale * x + shift.

        Args:
            x: (n, places, width) of F.
            scale: (T, n, width).
            shift: (T, n, width).
            e: (T, n, embedding).
        """
        weights = self.weights(x, scale, shift, e).mean(3)  # over the queries: (T, n, heads, places + 1)
        # mean_i sum_j w_ij (X_j W_v) = (sum_j mean_i w_ij X_j) W_v: one value per head instead of one per place
        places = weights[..., :-1]
        attended = torch.einsum("tnhp,npc->tnhc", places, x)
        attended = attended * scale[:, :, None] + places.sum(3, keepdim=True) * shift[:, :, None]
        by_head = self.value.weight.view(self.heads, -1, x.shape[2])  # (heads, width of a head, width)
        values = torch.einsum("tnhc,hkc->tnhk", attended, by_head)
        values = values + weights[..., -1:] * self.metadata_value(e).unflatten(2, (self.heads, -1))
        return self.out(values.flatten(2))  # type: ignore[no-any-return]

    def weights(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """(T, n, heads, places, places + 1) of the softmax; the last key is the metadata's."""
        projected = self.query_key(scale[:, :, None] * x) + self.query_key(shift)[:, :, None]
        q, k = (part.unflatten(3, (self.heads, -1)).transpose(2, 3) for part in projected.chunk(2, 3))
        k_m = self.metadata_key(e).unflatten(2, (self.heads, -1))[:, :, :, None]
        keys = torch.cat([k, k_m], 3)
        return torch.softmax(q @ keys.transpose(3, 4) / math.sqrt(q.shape[4]), 4)


def case_weights(u: torch.Tensor, strength: float) -> torch.Tensor:
    """(n,) w of eq. 9, of (n,) U."""
    return (1 + strength * u / (u.mean() + _TINY)).clamp(1, _HEAVIEST)


def uncertainty(f: torch.Tensor) -> dict[str, torch.Tensor]:
    """U of eq. 7, and eq. 8 in nats, (n,) each, of (T, n, K) logits."""
    p = f.softmax(2)
    total = _entropy(p.mean(0))
    # Rounding may bring the difference below zero where all passes agree.
    between = (total - _entropy(p).mean(0)).clamp(min=0)
    return {"variance": p.var(0, correction=0).mean(1), "entropy": total, "mutual_information": between}


def _entropy(p: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = torch.special.entr(p).sum(-1)
    return out


def _scaled(uniform: torch.Tensor, p: float) -> torch.Tensor:
    """Dropout's mask of numbers drawn uniformly from 0 to 1."""
    out: torch.Tensor = (uniform >= p).float() / (1 - p)
    return out


def _zero(layer: nn.Linear) -> nn.Linear:
    """The layer, starting at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


MODEL = DermaCalibra
