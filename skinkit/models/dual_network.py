"""Dual network: the photo asks the lesion cut out of it, by cross-attention, and a transformer reads the metadata.

Paper:
    Md. E. Atiq and S. A. Fattah, "Towards Explainable Skin Cancer Classification: A Dual-Network Attention Model with
    Lesion Segmentation and Clinical Metadata Fusion", arXiv:2510.17773, 2025. Backbone: G. Huang et al., "Densely
    Connected Convolutional Networks", CVPR 2017, doi 10.1109/CVPR.2017.243. Attention: A. Vaswani et al., "Attention Is
    All You Need", NeurIPS 2017, arXiv:1706.03762.

Idea:
    Two networks read the photo: one all of it, one the lesion alone. Every place of the photo asks all places of
    the lesion what of it matters there. Each attribute of the patient is a token beside them; what is not known has a
    learnt token of its own and is not zero.

Equations:
    (1) m' = m dilated by 0.05 d, its edge softened over 5 px,   d = 2 sqrt(|m| / pi)          m: 1 in the lesion
    (2) x_s = m' x + (1 - m') mean colour of ImageNet
    (3) T_o = W_o F(E_o(x)) + P_o,   T_s = W_s F(E_s(x_s)) + P_s                               E: DenseNet201, F: places
    (4) A = MHA(Q = T_o, K = V = T_s),   Z = LN(T_o + A),   Z' = LN(Z + FFN(Z)),   v = mean over places of Z'
    (5) t_j = W_j M_j + b_j, or a learnt token where attribute j is not known,   u = W_u Transformer([c; t_1; ..])_c
    (6) p = softmax(W_2 Drop(ReLU(BN(W_1 [v; u]))))
    (7) joint: z = decoder(E_o(x)), sigmoid(z) for m of eq. 1,   L = CE + lambda (BCE(z, m) + Dice(z, m))
        decoder: eqs. 2 to 6 of deep_unet; m of the loss: the workspace's mask

Shapes:
    image (n, 3, S, S), 0 to 1; mask m (n, S, S); attributes M (n, a), of which M_j are those of attribute j; with
    S = 224 T (n, 49, 512), 8 heads; tokens (n, attributes + 1, 128), 4 heads, 2 layers; v, u (n, 512). With DenseNet201
    and age, sex and site in 11 columns (encoder ``isic`` with indicators): 41.2 million parameters.

Departures:
    Of the paper only the abstract and descriptions by others could be read; it names DenseNet201, cross-attention and
    the transformer. Every shape and the recipe are ours. The masks are those of the workspace's segmenter, drawn
    before; with ``joint`` they are what a decoder on E_o learns to draw, whose soft outline E_s is shown in their
    place. The workspace keeps masks, not probabilities, so that without ``joint`` m is 0 or 1 in training as in use;
    only the 5 px of eq. 1 are soft. A mask grows by a square of side 2 round(0.05 d) + 1, not by a disc, so that the
    margin is up to 1.4 times as wide at an oblique edge. A photo whose mask failed, the joint one too (under 0.5 % or
    over 98 % of the photo), is read whole, and its prediction says so. Outside of the lesion stands the mean
    colour, because black would draw an edge around it. Tokens are made of any attributes: age, sex and site are three
    of them; an attribute that is not known says so in a column of its own (``--missing indicator``, the default here),
    because age is filled with a median that many patients have. ``fusion=both_ways`` also lets the lesion ask the photo
    and takes the mean of both v, ``fusion=concat`` joins the mean places of both; ``streams`` and ``metadata`` leave
    parts out, for ablation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.images.masks import LARGEST_SHARE, SMALLEST_SHARE
from skinkit.models.parts.backbone import Backbone, Maps
from skinkit.models.parts.dual_attention import Decoder
from skinkit.models.parts.losses import bce_dice
from skinkit.models.parts.photo_classifier import PhotoClassifier, PhotoConfig
from skinkit.models.parts.protocol import Augment, Presets, Sizes
from skinkit.models.parts.recipe import LIVE, QUICK, Augmented, PhotoRecipe, merged
from skinkit.options import Help

_EDGE_PX = 5
_OUTLINE = 128
"""Width of the decoder of eq. 7."""
_SAME_VALUE = 1e-6
"""Columns that differ by less from what the encoder writes for an unknown attribute are those of one."""
_PHOTO, _LESION = "backbone", "lesion_backbone"


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of the dual network."""

    backbone: Annotated[str, "of both networks: torchvision's name, or timm/ and timm's"] = "densenet201"
    recipe: Annotated[PhotoRecipe, "how it is trained"] = PhotoRecipe(
        epochs=60,
        batch=32,
        learning_rate=1e-4,
        head_learning_rate=5e-4,
        weight_decay=1e-4,
        schedule="cosine",
        patience=10,
        class_weights="inverse",
        label_smoothing=0.05,
        dropped=0.2,
    )
    augment: Augmented = Augment(
        rotation_deg=90.0, smallest_scale=0.9, largest_scale=1.1, brightness=0.2, contrast=0.2, saturation=0.2
    )
    streams: Annotated[
        Literal["both", "photo", "lesion"],
        Help("encoders: E_o reads the photo, E_s the lesion cut out of it", former="looks"),
    ] = "both"
    fusion: Annotated[Literal["attention", "both_ways", "concat"], "eq. 4, of both streams"] = "attention"
    metadata: Annotated[Literal["transformer", "mlp", "none"], "eq. 5, or two plain layers"] = "transformer"
    width: Annotated[int, "of T, v and u"] = 512
    heads: Annotated[int, "of eq. 4"] = 8
    token_width: Annotated[int, "of the tokens of eq. 5"] = 128
    dilation: Annotated[float, "of eq. 1, share of the diameter of a circle of the lesion's area"] = 0.05
    dropout: Annotated[float, "Drop of eq. 6"] = 0.5
    joint: Annotated[bool, "eq. 7: outline the lesion itself, learning it together with the rest"] = False
    mask_share: Annotated[float, "lambda of eq. 7"] = 1.0


class DualNetwork(PhotoClassifier):
    """Eqs. 1 to 6.

    Attributes:
        lesion_backbone: E_s.
        lesion_last: changes nothing; the maps of E_s pass through it.
        photo_places: W_o and P_o.
        lesioplaces: W_s and P_s.
        asking: eq. 4.
        answering: eq. 4 the other way.
        tokens: eq. 5.
        output: eq. 6.
        outline: the decoder of eq. 7.
    """

    TASK = "classify"
    READS = ("image", "mask", "attributes")
    MISSING = "indicator"  # written by its fill alone, an unknown age would be that of a patient of the median age
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {
        "atiq2025": {},
        "quick": merged(
            QUICK,
            LIVE,
            {"turned": False, "dropout": 0.3, "recipe": {"epochs": 10, "final_epochs": 10, "most_steps": 150}},
        ),
    }

    lesion_backbone: Backbone

    def __init__(self, config: Config, sizes: Sizes) -> None:
        _check(config, sizes)
        super().__init__(config, sizes)
        self.lesion_last = nn.Identity()
        w = config.width
        places, both = math.prod(self._shapes[0][1:]), config.streams == "both"
        channels = self.backbones[0].widths[-1]
        if config.streams != "lesion":
            self.photo_places = Places(channels, places, w)
        if config.streams != "photo":
            self.lesioplaces = Places(channels, places, w)
        if both and config.fusion != "concat":
            self.asking = CrossAttention(w, config.heads)
        if both and config.fusion == "both_ways":
            self.answering = CrossAttention(w, config.heads)
        joined = 2 * w if both and config.fusion == "concat" else w
        if config.metadata == "transformer":
            self.tokens: nn.Module = Tokens(self.owners, config.token_width, w)
        elif config.metadata == "mlp":
            self.tokens = nn.Sequential(
                nn.Linear(self.columns, config.token_width), nn.ReLU(), nn.Linear(config.token_width, w)
            )
        joined += w if config.metadata != "none" else 0
        self.output = nn.Sequential(
            nn.Linear(joined, w), nn.BatchNorm1d(w), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(w, len(sizes.answers)),
        )  # fmt: skip
        if config.joint:
            _check_sizes(config, self.backbone)
            *finer, deepest = self.backbone.widths
            side = config.side_px // self.backbone.strides[-1]
            self.outline = Decoder(finer, deepest, _OUTLINE, places=side, aspp=True, gates="dual", dropout=0.1)

    @classmethod
    def backbone_names(cls, config: Config) -> tuple[str, ...]:
        """E_o, E_s, or both; a single one is called ``backbone``."""
        return (_PHOTO, _LESION) if config.streams == "both" else (_PHOTO,)

    def pictures(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, 6, S, S) x and x_s of eq. 2, or (n, 3, S, S) one of them."""
        x = batch["image"]
        if self.config.streams == "photo" or self.config.joint:
            return x
        lesion = self._lesion(x, batch["mask"].to(x.dtype))
        return lesion if self.config.streams == "lesion" else torch.cat([x, lesion], 1)

    def _lesion(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x_s of eq. 2, of a mask (n, S, S) that may be soft."""
        m = softened(dilated(mask, self.config.dilation))[:, None]
        return m * x + (1 - m) * self.backbones[0].mean

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weighted cross-entropy, and that of eq. 7; a mask that is the whole photo failed, and is not learnt."""
        if not self.config.joint:
            return super().loss(batch)
        maps, z = self._outlined(self.pictures(batch))
        loss = self.weighted(self.head(self.remembered(maps), batch)["diagnosis"], batch)
        mask = batch["mask"].float()
        drawn = mask.mean((1, 2)) < 1
        return loss + self.config.mask_share * bce_dice(z[drawn].float(), mask[drawn]) if drawn.any() else loss

    def _outlined(self, x: torch.Tensor) -> tuple[Maps, torch.Tensor]:
        """Both encoders' maps of photos (n, 3, S, S), and z of eq. 7 (n, S, S)."""
        *finer, deepest = self.backbone(x)
        z = self._outline(finer, deepest, x)
        m = torch.where(outline_failed(z)[:, None, None], 1.0, z.sigmoid())
        return (self.lesion_backbone(self._lesion(x, m))[-1], deepest), z

    def _outline(self, finer: Sequence[torch.Tensor], deepest: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Z of eq. 7 (n, S, S), of E_o's maps of photos (n, 3, S, S)."""
        # The base class asks for the shapes of the maps before there is a decoder.
        z = self.outline.decoded(finer, deepest) if "outline" in self._modules else x[:, :1]
        return functional.interpolate(z, size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]

    def failed_masks(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """With ``joint``: bool (n,) photos of which some version had no outline."""
        if not self.config.joint:
            return None
        failed = []
        for x in self._versions(self.pictures(batch)):
            *finer, deepest = self.backbone(x)
            failed.append(outline_failed(self._outline(finer, deepest, x)))
        return torch.stack(failed).any(0)

    def feature_maps(self, pictures: torch.Tensor) -> Maps:
        """F(E_s(x_s)) and F(E_o(x)), (n, width, h, w) each, or one of them."""
        if self.config.joint:
            return self._outlined(pictures)[0]
        if pictures.shape[1] == 3:
            return (self.backbone(pictures)[-1],)
        return (self.lesion_backbone(pictures[:, 3:])[-1], self.backbone(pictures[:, :3])[-1])

    def keep(self, maps: Maps) -> Maps:
        """All of them."""
        return maps

    def shown(self, maps: Maps) -> Maps:
        """Each through a layer of its own."""
        return (*(self.lesion_last(m) for m in maps[:-1]), self.last(maps[-1]))

    def heat_layers(self) -> Mapping[str, tuple[str, nn.Module]]:
        """``photo`` of E_o and ``lesion`` of E_s, or the one there is; both lie over the photo."""
        if self.config.streams == "both":
            return {"photo": ("image", self.last), "lesion": ("image", self.lesion_last)}
        return {self.config.streams: ("image", self.last)}

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 3 to 6: ``diagnosis`` (n, K) logits of what :meth:`encode` answers and attributes (n, a)."""
        parts = [self._seen(self.unpacked(seen))]
        if self.config.metadata != "none":
            attributes = self.attributes(batch)
            known = (attributes, self.unknown) if self.config.metadata == "transformer" else (attributes,)
            parts.append(self.tokens(*known))
        return {"diagnosis": self.output(torch.cat(parts, 1))}

    def _seen(self, maps: Maps) -> torch.Tensor:
        """(n, width) v of eq. 4."""
        c = self.config
        if c.streams != "both":
            places = self.photo_places if c.streams == "photo" else self.lesioplaces
            return places(maps[0]).mean(1)  # type: ignore[no-any-return]
        lesion, photo = self.lesioplaces(maps[0]), self.photo_places(maps[1])
        if c.fusion == "concat":
            return torch.cat([photo.mean(1), lesion.mean(1)], 1)
        v: torch.Tensor = self.asking(photo, lesion).mean(1)
        return v if c.fusion == "attention" else (v + self.answering(lesion, photo).mean(1)) / 2


class Places(nn.Module):
    """Eq. 3: maps (n, channels, h, w) as tokens (n, h w, width) that know where they are.

    Args:
        channels: of the maps.
        places: h w.
        width: of the tokens.
    """

    def __init__(self, channels: int, places: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.zeros(places, width))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """T."""
        out: torch.Tensor = self.project(maps.flatten(2).transpose(1, 2)) + self.position
        return out


class CrossAttention(nn.Module):
    """Eq. 4 before the mean over places.

    Args:
        width: of the tokens.
        heads: how many.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, asking: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Z' of the tokens that ask (n, places, width) and those that are asked."""
        z = self.norm(asking + self.attention(asking, asked, asked, need_weights=False)[0])
        out: torch.Tensor = self.last_norm(z + self.feed_forward(z))
        return out


class Tokens(nn.Module):
    """Eq. 5.

    Args:
        owners: the attribute behind each column.
        width: of the tokens.
        answer: of u.
    """

    def __init__(self, owners: tuple[str, ...], width: int, answer: int) -> None:
        super().__init__()
        names = list(dict.fromkeys(owners))
        self.columns = [[i for i, owner in enumerate(owners) if owner == name] for name in names]
        self.known = nn.ModuleList(nn.Linear(len(columns), width) for columns in self.columns)
        self.missing = nn.Parameter(torch.zeros(len(names), width))
        self.first = nn.Parameter(torch.zeros(width))
        for parameter in (self.missing, self.first):
            nn.init.trunc_normal_(parameter, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.answer = nn.Linear(width, answer)

    def forward(self, attributes: torch.Tensor, unknown: torch.Tensor) -> torch.Tensor:
        """(n, answer) u of (n, columns) M, and (columns,) what the encoder writes where nothing is known."""
        tokens = [self.first.expand(len(attributes), -1)]
        for columns, known, missing in zip(self.columns, self.known, self.missing, strict=True):
            values = attributes[:, columns]
            absent = ((values - unknown[columns]).abs() < _SAME_VALUE).all(1, keepdim=True)
            tokens.append(torch.where(absent, missing.to(values.dtype), known(values)))
        u: torch.Tensor = self.answer(self.encoder(torch.stack(tokens, 1))[:, 0])
        return u


def outline_failed(z: torch.Tensor) -> torch.Tensor:
    """Bool (n,) outlines z of eq. 7 (n, S, S) that are next to nothing or everything, as of the workspace's masks."""
    share = (z > 0).float().mean((1, 2))
    return (share < SMALLEST_SHARE) | (share > LARGEST_SHARE)


def dilated(mask: torch.Tensor, share: float) -> torch.Tensor:
    """M of eq. 1 before its edge is softened.

    Args:
        mask: (n, S, S), 0 to 1.
        share: of the diameter of a circle of the lesion's area.
    """
    radii = (share * 2 * (mask.detach().sum((1, 2)) / math.pi).sqrt()).round().long()
    out = mask.clone()
    for radius in sorted(set(radii.tolist())):
        if radius:
            these = radii == radius
            out[these] = functional.max_pool2d(mask[these][:, None], 2 * radius + 1, 1, radius)[:, 0]
    return out


def softened(mask: torch.Tensor) -> torch.Tensor:
    """M' of eq. 1: the mean over 5 x 5 pixels; what lies outside of the photo does not count."""
    return functional.avg_pool2d(mask[:, None], _EDGE_PX, 1, _EDGE_PX // 2, count_include_pad=False)[:, 0]


def _check(config: Config, sizes: Sizes) -> None:
    """Refuse heads that do not divide a width, and no attributes to make tokens of."""
    if config.width % config.heads or config.token_width % 4 or not 0 <= config.dilation < 1:
        found = f"width = {config.width}, heads = {config.heads}, token_width = {config.token_width}, dilation = "
        raise ConfigError(
            f"{found}{config.dilation}",
            "a width that heads divides, a token_width that 4 divides, and a dilation from 0 to below 1",
            "correct the settings",
        )
    if config.joint and config.streams != "both":
        raise ConfigError(
            f"joint with streams = {config.streams}",
            "streams = both: the photo's network outlines what the lesion's is shown",
            "leave joint out, or set streams=both",
        )
    if config.metadata != "none" and not sizes.columns.get("attributes"):
        raise ConfigError(
            "no attributes to make tokens of",
            "metadata of the patients",
            "give --attributes auto, or --settings metadata=none",
        )


def _check_sizes(config: Config, backbone: Backbone) -> None:
    """Refuse to outline with maps that do not halve from stage to stage."""
    halved = all(coarse == 2 * fine for fine, coarse in pairwise(backbone.strides))
    if not halved or config.side_px % backbone.strides[-1]:
        raise ConfigError(
            f"joint with {config.backbone} at {config.side_px} px",
            "stages whose maps halve, such as a ResNet's, and a side that the last stage divides evenly",
            "leave joint out, or choose another backbone or side_px",
        )


MODEL = DualNetwork
