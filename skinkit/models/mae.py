"""Masked autoencoder: three quarters of a photo are hidden, and a ViT learns to fill them in; a backbone to start from.

Paper:
    K. He, X. Chen, S. Xie, Y. Li, P. Dollar and R. Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR
    2022, arXiv:2111.06377. In dermatology, on real and synthetic photos: F. Filho et al., "DerMAE: Improving skin
    lesion classification through conditioned latent diffusion and MAE distillation", arXiv:2602.19848, 2026. Encoder:
    A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021.

Idea:
    Most of a photo is redundant. An encoder that sees a quarter of its patches, and a small decoder that has to draw
    the others, learn what lesions look like without one label, and the encoder never pays for what is hidden. The
    decoder is left behind; a classifier starts from the encoder.

Equations:
    (1) M: round(r N) of the N patches of a photo at random; V: the others              r = 0.75
    (2) z_i = W_e x_i + b_e + e_i for i in V;  h = LN(ViT([c + e_0; z_V]))              e: positions; c: class token
    (3) y = W_d h + b_d; y_i = m for i in M, in the order of the patches; y_i + d_i     m: mask token; d: positions
    (4) each decoder block: y <- y + MSA(LN(y)), y <- y + MLP(LN(y))                    MLP: 4 times as wide, GELU
    (5) x'_i = W_p LN(y_i) + b_p
    (6) t_i = (x_i - mean(x_i)) / sqrt(var(x_i) + 1e-6)                                 over the numbers of one patch
    (7) L = 1 / |M| sum over i in M of mean((x'_i - t_i)^2)                             nothing for patches in V
    (8) e, d: sin and cos of the column in the first half of the width and of the row in the second, of frequencies
        10000^(-4 k / width), k from 0; 0 for the class token; not trained

Shapes:
    image (n, 3, S, S), 0 to 1; x (n, N, 3 p^2), N = (S / p)^2; h (n, 1 + |V|, D); y (n, 1 + N, d); x' as x.

    preset  encoder               S    p   N, |V|   D, blocks, heads   d, blocks, heads   parameters   of the encoder
    h14     vit_huge_patch14      224  14  256, 64  1280, 32, 16       512, 8, 16         656,942,924  630,764,800
    b16     vit_base_patch16      224  16  196, 49  768, 12, 12        512, 8, 16         111,806,976  85,798,656
    s16     deit_small_patch16    224  16  196, 49  384, 12, 6         512, 8, 16         47,477,376   21,665,664
    ti16    deit_tiny_patch16     224  16  196, 49  192, 12, 3         256, 4, 8          8,931,008    5,524,416
    quick   vit_patch8_192x6x3    64   8   64, 16   192, 6, 3          96, 2, 3           2,980,416    2,719,296
    quick_student  vit_patch8_128x6x4  64  8  64, 16  128, 6, 4         96, 2, 3           1,478,016    1,223,040

Departures:
    The paper crops 0.2 to 1 of the area at random; here photos are made up to 2.2 times as large and shifted, which
    shows as little of them. Weight decay also holds for biases and norms. The rate climbs along a cosine. 200 epochs,
    of which 40 climb, instead of 800 and 40; the decoder of ti16 and all of quick are ours. quick has a higher rate,
    because it takes few steps. Public weights may be given (--weights PATH); their positions are kept in place of eq. 8
    and rest too. Of DerMAE the abstract could be read: its recipe is He's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as functional
from torch import nn
from torch.utils.checkpoint import checkpoint

from skinkit.errors import ConfigError
from skinkit.models.parts import recipe
from skinkit.models.parts.backbone import Backbone
from skinkit.models.parts.protocol import Augment, Network, Phase, Presets, SidePx, Sizes
from skinkit.models.parts.recipe import Augmented, Recipe
from skinkit.models.parts.vision_transformer import Checkpointing, PlainViT, plain_vit, refuse_other_grid

_EPSILON = 1e-6
"""Of eq. 6, and of every LN."""
_QUICK: dict[str, Any] = {
    "side_px": 64,
    "decoder_width": 96,
    "decoder_depth": 2,
    "decoder_heads": 3,
    "recipe": {"epochs": 30, "batch": 64, "most_steps": 100, "learning_rate": 1e-3, "warm_up": 0.1},
}
"""What the two small sizes share."""


@dataclass(frozen=True)
class Config:
    """Options of the pretraining."""

    backbone: PlainViT = "timm/deit_small_patch16_224"
    side_px: SidePx = 224
    hidden: Annotated[float, "r of eq. 1: share of the patches that are hidden, above 0 to below 1"] = 0.75
    decoder_width: Annotated[int, "d, a multiple of 4 and of the heads"] = 512
    decoder_depth: Annotated[int, "blocks of the decoder"] = 8
    decoder_heads: Annotated[int, "heads of each"] = 16
    checkpointing: Checkpointing = False
    recipe: Annotated[Recipe, "how it is trained"] = Recipe(
        epochs=200,
        batch=256,
        learning_rate=1.5e-4,
        beta2=0.95,
        weight_decay=0.05,
        schedule="one_cycle",
        warm_up=0.2,
    )
    augment: Augmented = Augment(largest_scale=2.2, shift=0.1)


class MAE(Network, nn.Module):
    """Eqs. 1 to 7.

    Attributes:
        backbone: the encoder, eq. 2.
        narrowed: W_d of eq. 3.
        mask_token: m of eq. 3, (1, 1, d).
        decoder: eq. 4.
        norm, drawn: LN and W_p of eq. 5.
        places: d of eq. 3, (1, 1 + N, d).
    """

    TASK = "pretrain"
    READS = ("image",)
    CONFIG = Config
    PRESETS: ClassVar[Presets] = {
        "h14": {"backbone": "timm/vit_huge_patch14_224.mae", "checkpointing": True},
        "b16": {"backbone": "timm/vit_base_patch16_224.mae"},
        "s16": {},
        "ti16": {
            "backbone": "timm/deit_tiny_patch16_224",
            "decoder_width": 256,
            "decoder_depth": 4,
            "decoder_heads": 8,
        },
        "quick": {**_QUICK, "backbone": "timm/vit_patch8_192x6x3"},
        "quick_student": {**_QUICK, "backbone": "timm/vit_patch8_128x6x4"},
    }

    places: torch.Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        recipe.check(config)
        _check(config)
        self.config = config
        self.backbone = Backbone(config.backbone, config.side_px)
        vit: Any = plain_vit(self.backbone)
        if vit.embed_dim % 4 or vit.patch_embed.num_patches < 2:
            raise ConfigError(
                f"backbone {config.backbone} for photos of {config.side_px} px",
                "a width that 4 divides, and at least two patches",
                "take a larger side_px, or another width",
            )
        self.patch_px, self.side = vit.patch_embed.patch_size[0], vit.patch_embed.grid_size[0]
        self.patches = self.side**2
        self.visible = max(1, min(self.patches - 1, self.patches - round(config.hidden * self.patches)))
        width, values = config.decoder_width, 3 * self.patch_px**2
        self.narrowed = nn.Linear(vit.embed_dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.decoder = nn.Sequential(*(_Block(width, config.decoder_heads) for _ in range(config.decoder_depth)))
        self.norm, self.drawn = nn.LayerNorm(width, _EPSILON), nn.Linear(width, values)
        self.register_buffer("places", positions(width, self.side), persistent=False)
        with torch.no_grad():
            vit.pos_embed.copy_(positions(vit.embed_dim, self.side))

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over public weights of the encoder, with their positions.

        Raises:
            InputError: they are another network's, of other patches or of photos of another side.
        """
        refuse_other_grid(self.backbone, state, source)
        return self.backbone.start(state, source)

    def phases(self) -> tuple[Phase, ...]:
        """One."""
        return (recipe.phase("all", self.config),)

    def enter(self, phase: str) -> None:
        """Positions rest, eq. 8."""
        vit: Any = plain_vit(self.backbone)
        vit.pos_embed.requires_grad_(False)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 7, the mean over photos."""
        answers = self(batch)
        filled, hidden = answers["filled"].float(), answers["hidden"]
        target = normalised(self.cut(self.coloured(batch["image"]).float()))
        error = (filled - target).square().mean(2)
        loss: torch.Tensor = (error * hidden).sum() / hidden.sum()  # eq. 7
        return loss

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``filled`` (n, N, 3 p^2) x' of photos of which some patches are hidden, and ``hidden`` (n, N) bool, which."""
        image = batch["image"]
        order = torch.rand(len(image), self.patches, device=image.device).argsort(1)  # eq. 1: V first, then M
        filled = self.decode(self.see(image, order[:, : self.visible]), order)
        return {"filled": filled, "hidden": order.argsort(1) >= self.visible}

    def see(self, image: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Eq. 2.

        Args:
            image: (n, 3, S, S), 0 to 1.
            visible: (n, |V|) int64, numbers of the patches that are seen, row by row from 0.

        Returns:
            (n, 1 + |V|, D): the class token, then these patches in their order.
        """
        vit: Any = plain_vit(self.backbone)
        z = vit.patch_embed(self.coloured(image)) + vit.pos_embed[:, 1:]  # patch by patch, so none sees another here
        z = _chosen(z, visible)
        c = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(z), -1, -1)
        h = vit.norm_pre(torch.cat([c, z], 1))
        for block in vit.blocks:
            h = checkpoint(block, h, use_reentrant=False) if self.config.checkpointing and self.training else block(h)
        out: torch.Tensor = vit.norm(h)
        return out

    def decode(self, h: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Eqs. 3 to 5.

        Args:
            h: of :meth:`see`.
            order: (n, N) numbers of the patches, those that h is of first.

        Returns:
            (n, N, 3 p^2) x', in the order of the patches.
        """
        y = self.narrowed(h)
        missing = self.mask_token.to(y.dtype).expand(len(y), self.patches + 1 - y.shape[1], -1)
        whole = _chosen(torch.cat([y[:, 1:], missing], 1), order.argsort(1))  # back at their places
        y = torch.cat([y[:, :1], whole], 1) + self.places  # eq. 3
        y = self.decoder(y)  # eq. 4
        out: torch.Tensor = self.drawn(self.norm(y))[:, 1:]  # eq. 5
        return out

    def coloured(self, image: torch.Tensor) -> torch.Tensor:
        """The photos in the colours of the encoder."""
        return (image - self.backbone.mean) / self.backbone.sd

    def cut(self, image: torch.Tensor) -> torch.Tensor:
        """(n, N, 3 p^2) patches of (n, 3, S, S), row by row; each its rows of pixels, and of a pixel its colours."""
        n, p, s = len(image), self.patch_px, self.side
        return image.reshape(n, 3, s, p, s, p).permute(0, 2, 4, 3, 5, 1).reshape(n, s * s, 3 * p * p)

    def backbone_state(self) -> dict[str, torch.Tensor]:
        """The encoder's weights and positions, under its library's names."""
        return self.backbone.own_state()


class _Block(nn.Module):
    """Eq. 4."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, _EPSILON), nn.LayerNorm(width, _EPSILON)
        self.query_key_value, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width)."""
        y = y + self._attended(self.norm1(y))
        out: torch.Tensor = y + self.mlp(self.norm2(y))
        return out

    def _attended(self, y: torch.Tensor) -> torch.Tensor:
        """MSA: softmax(q k^T / sqrt(width / heads)) v of each head, side by side, joined by a linear layer."""
        n, tokens, width = y.shape
        of_heads = self.query_key_value(y).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*of_heads.unbind(0))
        out: torch.Tensor = self.joined(seen.transpose(1, 2).reshape(n, tokens, width))
        return out


def normalised(patches: torch.Tensor) -> torch.Tensor:
    """Eq. 6 of (n, N, numbers)."""
    mean, var = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    return (patches - mean) / (var + _EPSILON).sqrt()


def positions(width: int, side: int) -> torch.Tensor:
    """Eq. 8 for side x side patches, row by row after the class token: (1, 1 + side^2, width)."""
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row, column = (at.flatten() for at in torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij"))
    angles = [at[:, None] * frequencies for at in (column, row)]
    of_patches = torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], 1)
    return torch.cat([torch.zeros(1, width), of_patches.float()])[None]


def _chosen(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(n, k, width) of (n, tokens, width): those at (n, k) places, in their order."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def _check(config: Config) -> None:
    width, heads = config.decoder_width, config.decoder_heads
    if not 0 < config.hidden < 1:
        raise ConfigError(f"hidden = {config.hidden}", "above 0 to below 1", "0.75 hides three of four patches")
    if min(width, heads, config.decoder_depth) < 1 or width % 4 or width % heads:
        raise ConfigError(
            f"decoder_width = {width}, decoder_depth = {config.decoder_depth}, decoder_heads = {heads}",
            "one block or more, and a width that 4 and the heads divide",
            "correct the settings",
        )


MODEL = MAE
