"""Autoencoders that turn photos into small latents and back, each side an eighth of the photo's; none is trained here.

    kl-f8     diffusers' AutoencoderKL with 4 channels (R. Rombach et al., CVPR 2022)
    taesd     diffusers' AutoencoderTiny with 4 channels
    taef1     the same with 16
    taef2     the same with 32, and blocks that look at the whole photo where the maps are smallest

Weights come in one file with the names of diffusers, or of the tiny ones as two files, encoder and decoder, with the
names of their author (github.com/madebyollin/taesd).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from skinkit.errors import ConfigError, InputError
from skinkit.models.parts.weights import load_into

FACTOR = 8
"""Side of a photo, as a multiple of its latents'."""
PARTS = ("encoder", "decoder")
_WIDTH = 64
"""Of every layer of a tiny autoencoder."""
_POOLED = {"encoder": (11, 12, 13), "decoder": (2, 3, 4)}
"""Places of the blocks at the smallest maps, in diffusers' counting."""
_GROUPS = 4
_OLDER_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_BY_AUTHOR = re.compile(r"^(encoder|decoder)\.(\d+)\.")


@dataclass(frozen=True)
class Kind:
    """One of the autoencoders.

    Attributes:
        channels: of its latents.
        tiny: whether it is an AutoencoderTiny.
        pooled: whether its middle blocks are :class:`_PooledBlock`.
    """

    channels: int
    tiny: bool = True
    pooled: bool = False


KINDS = {"kl-f8": Kind(4, tiny=False), "taesd": Kind(4), "taef1": Kind(16), "taef2": Kind(32, pooled=True)}


def diffusers() -> Any:
    """The library of the extra ``synthesis``; where it lacks, :class:`ConfigError`."""
    try:
        import diffusers as library
    except ImportError:
        raise ConfigError(
            "diffusers is not installed", "the library of diffusion models", 'pip install "skinkit[synthesis]"'
        ) from None
    return library


class Autoencoder(nn.Module):
    """One of :data:`KINDS`, from random numbers until :meth:`start`.

    Args:
        name: which.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.kind = name, KINDS[name]
        if self.kind.tiny:
            self.net = diffusers().AutoencoderTiny(latent_channels=self.kind.channels)
        else:
            self.net = diffusers().AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=self.kind.channels,
            )
        for part, places in _POOLED.items() if self.kind.pooled else ():
            for place in places:
                getattr(self.net, part).layers[place] = _PooledBlock()
        self.requires_grad_(False)

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> None:
        """Take over its weights.

        Raises:
            InputError: they are another network's.
        """
        renamed = {self._present(name): value for name, value in state.items()}
        try:
            load_into(self.net, renamed, source)
        except InputError as error:
            raise InputError(
                error.found,
                f"the weights of the autoencoder {self.name}, under diffusers' names"
                + (", or as two files: ENCODER,DECODER" if self.kind.tiny else ""),
                "name its weights with --weights, or another one with --settings autoencoder=NAME",
            ) from None

    def _present(self, name: str) -> str:
        """The name in diffusers of a tensor that its author, or an older version, calls otherwise."""
        if self.kind.tiny:
            # The author counts the clamp that the decoder begins with.
            return _BY_AUTHOR.sub(lambda m: f"{m[1]}.layers.{int(m[2]) - (m[1] == 'decoder')}.", name)
        parts = name.split(".")
        return ".".join(_OLDER_ATTENTION.get(part, part) for part in parts) if "attentions" in parts else name

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(n, channels, S / 8, S / 8) of photos (n, 3, S, S), 0 to 1; of kl-f8 the mean."""
        seen = self.net.encode(2 * image - 1)
        out: torch.Tensor = seen.latents if self.kind.tiny else seen.latent_dist.mode()
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`encode`, nearly."""
        out: torch.Tensor = self.net.decode(latents).sample / 2 + 0.5
        return out


class _PooledBlock(nn.Module):
    """A block of a tiny autoencoder with a normalisation over the whole photo before it."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.pool = nn.Sequential(
            nn.Conv2d(_WIDTH, 4 * _WIDTH, 1, bias=False),
            nn.GroupNorm(_GROUPS, 4 * _WIDTH),
            nn.ReLU(),
            nn.Conv2d(4 * _WIDTH, _WIDTH, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 64, h, w)."""
        x = x + self.pool(x)
        out: torch.Tensor = (self.conv(x) + x).relu()
        return out
