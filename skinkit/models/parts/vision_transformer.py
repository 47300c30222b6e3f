"""timm's plain ViT inside a backbone: which one that is, what fits it, and what is set in it after it was built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.errors import ConfigError, InputError
from skinkit.models.parts.backbone import Backbone

if TYPE_CHECKING:
    import torch
    from timm.models.vision_transformer import VisionTransformer

PlainViT = Annotated[
    str,
    "a plain ViT of timm, or timm/vit_patch8_192x6x3 (patches of 8 pixels, width 192, 6 blocks of 3 heads) in any size",
]
"""How a ``Config`` names it."""
Checkpointing = Annotated[bool, "keep no activations of the ViT's blocks: a third more work, much less memory"]
_PATCHES, _POSITIONS = "patch_embed.proj.weight", "pos_embed"
"""timm's names."""


def plain_vit(backbone: Backbone) -> VisionTransformer:
    """The ViT of a backbone: one class token, and a position embedding for it and for every patch.

    Raises:
        ConfigError: the backbone is no such network.
    """
    from timm.models.vision_transformer import VisionTransformer

    vit = getattr(backbone.net, "model", None)
    if not isinstance(vit, VisionTransformer) or vit.num_prefix_tokens != 1 or vit.no_embed_class:
        raise ConfigError(
            f"backbone {backbone.name}",
            "a plain ViT of timm: patches, a class token and position embeddings of both",
            "give --settings backbone=timm/deit_small_patch16_224, or timm/vit_patch8_192x6x3 (patch, width, blocks "
            "and heads)",
        )
    return vit


def refuse_other_grid(backbone: Backbone, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights of other patches or of photos of another side, which stretching would make fit.

    Args:
        backbone: with a plain ViT.
        state: name -> tensor, of the whole network of timm or of its features.
        source: the file, for the message.

    Raises:
        InputError: their patches have another side, or they are of more or fewer places.
    """
    vit: Any = plain_vit(backbone)
    named = {name.removeprefix("model."): values for name, values in state.items()}
    patch = vit.patch_embed.patch_size[0]
    kernel, positions = named.get(_PATCHES), named.get(_POSITIONS)
    if kernel is not None and kernel.ndim == 4 and kernel.shape[-1] != patch:
        raise InputError(
            f"{source} has patches of {kernel.shape[-1]} px",
            f"patches of {patch} px, as {backbone.name} has",
            "give weights of such patches, or the backbone they belong to with --settings backbone=NAME",
        )
    places = positions.shape[1] - 1 if positions is not None and positions.ndim == 3 else None
    own = vit.patch_embed.num_patches
    if places is not None and places != own:
        side = round(places**0.5) * patch
        raise InputError(
            f"{source} has position embeddings of {places} places, for photos of {side} px",
            f"{own} places, for photos of {backbone.side_px} px in patches of {patch} px",
            f"give --settings side_px={side}, or weights for {backbone.side_px} px",
        )


def drop_paths(vit: VisionTransformer, highest: float) -> None:
    """Let blocks be left out of some cases while training: the first of none, the last of this share of them.

    Source: G. Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, eq. 4 (here of both halves of a block).
    """
    from timm.layers import DropPath

    for number, block in enumerate(vit.blocks):
        if share := highest * number / (len(vit.blocks) - 1):
            block.drop_path1, block.drop_path2 = DropPath(share), DropPath(share)
