"""Latent diffusion: noise becomes the latents of a photo of a class, step by step; an autoencoder draws the photo.

Paper:
    R. Rombach, A. Blattmann, D. Lorenz, P. Esser and B. Ommer, "High-Resolution Image Synthesis with Latent Diffusion
    Models", CVPR 2022, arXiv:2112.10752. Guidance: J. Ho and T. Salimans, arXiv:2207.12598; cosine schedule: A. Nichol
    and P. Dhariwal, ICML 2021; min-SNR: T. Hang et al., ICCV 2023; DDIM: J. Song et al., ICLR 2021. In dermatology: F.
    Filho et al., "DerMAE: Improving skin lesion classification through conditioned latent diffusion and MAE
    distillation", arXiv:2602.19848, 2026.

Idea:
    A photo is first made small by an autoencoder that is not trained. A network learns to see the noise in noisy
    latents, given their noise level and their class; sometimes the class is hidden. Asked again and
    again, it turns pure noise into latents of a class, and the autoencoder draws them. What it says with the class
    counts more than what it says without, so that images are typical of their class.

Equations:
    (1) z = (E(x) - m) / s              m, s: mean and standard deviation of each channel over the training photos
    (2) z_t = sqrt(a_t) z + sqrt(1 - a_t) e,   e ~ N(0, 1),   t uniform in 0 .. T - 1                     T = 1000
    (3) a_t = product over i <= t of (1 - min(0.999, 1 - f(i + 1) / f(i)))
        f(i) = cos^2(pi/2 (i / T + 0.008) / 1.008)
    (4) L = mean of w_t (e - e'(z_t, t, c))^2,   w_t = min(snr_t, g) / snr_t,   snr_t = a_t / (1 - a_t)      g = 5
        c is none with probability p                                                                       p = 0.1
    (5) v-prediction: the network answers v = sqrt(a_t) e - sqrt(1 - a_t) z, and w_t = min(snr_t, g) / (snr_t + 1)
    (6) e^ = e'(z_t, t, none) + w (e'(z_t, t, c) - e'(z_t, t, none))                                         w = 3
    (7) DDIM, from t to u < t: z^ = (z_t - sqrt(1 - a_t) e^) / sqrt(a_t), no further from 0 than r;
        z_u = sqrt(a_u) z^ + sqrt(1 - a_u) (z_t - sqrt(a_t) z^) / sqrt(1 - a_t)      r: the largest |z| of training
    (8) x = D(s z_0 + m)
    (9) the weights that are kept: W <- d W + (1 - d) W_step,  d = min(D, (1 + n) / (10 + n)) after n steps

Shapes:
    image (n, 3, S, S), 0 to 1; E(x) (n, C, S / 8, S / 8), of pixels (n, 3, S, S); t, c (n,), c = K for none.

    preset  S    E, C             width, levels                batch, steps   parameters, of them trained
    dermae  256  kl-f8, 4         128, 1-2a-3a-4               64, 200,000    167,937,643, 84,283,780
    quick   64   taef2, 32        64, 1a-2                     32, 5,160      5,359,491, 2,682,464
    pixels  64   none, 3          32, 1-1-2-2a                 32, 5,160      1,224,451, 1,224,451

Departures:
    Of DerMAE the abstract could be read; sizes are ours. Classes are drawn equally often, but no photo more than 10
    times as often as it would be otherwise. AdamW's weight decay is 0.01; gradients are clipped to norm 1. Of kl-f8
    the mean is learnt, not a draw. Latents of as many views of a photo as ``cached_views`` are computed once. quick and
    pixels answer v: asked for the noise, a network that takes few steps does not learn the colour of a class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from skinkit.errors import ConfigError, InputError
from skinkit.models.parts import recipe
from skinkit.models.parts.autoencoders import FACTOR, KINDS, PARTS, Autoencoder, diffusers
from skinkit.models.parts.protocol import LOWER, TRUTH, Augment, Generator, Network, Phase, Presets, Sizes
from skinkit.models.parts.recipe import Augmented, Recipe

_NOISE_STEPS = 1000
"""T of eq. 2."""
_SCHEDULE = "squaredcos_cap_v2"
"""Eq. 3, as diffusers calls it."""
_GROUPS = 32
"""Of the UNet's group normalisation."""
_NO_AUTOENCODER = "none"
_LEVEL = re.compile(r"([1-9])(a?)")
_SMALLEST_SPREAD = 1e-4
"""s of eq. 1 is no smaller, so that a channel that never changes is no division by 0."""


@dataclass(frozen=True)
class DiffusionRecipe(Recipe):
    """How the network is trained."""

    cached_views: Annotated[
        int,
        "views of each training photo that are encoded, once, before training: the photo as it is, and varied ones; 0 "
        "encodes a new one in every step",
    ] = 4


@dataclass(frozen=True)
class Config:
    """Options of the generator; the defaults are DerMAE's, as far as it says."""

    side_px: Annotated[int, "photos are resized to this square, and images have it, pixels"] = 256
    autoencoder: Annotated[
        Literal["kl-f8", "taesd", "taef1", "taef2", "none"],
        "what makes photos small; --weights are its weights: one file, or ENCODER,DECODER; none: it works on pixels",
    ] = "kl-f8"
    autoencoder_licence: Annotated[str, "licence of its weights, as their source states it; stands in the model"] = (
        "MIT, stabilityai/sd-vae-ft-mse"
    )
    width: Annotated[int, "channels of the UNet's first level, a multiple of 32"] = 128
    levels: Annotated[
        str,
        "the UNet's levels, each of half the side of the one before: channels as a multiple of the width, and a where "
        "it has attention",
    ] = "1-2a-3a-4"
    blocks: Annotated[int, "residual blocks of each level"] = 2
    prediction: Annotated[Literal["epsilon", "v_prediction"], "what the UNet answers: the noise, or v of eq. 5"] = (
        "epsilon"
    )
    min_snr: Annotated[float, "g of eq. 4"] = 5.0
    class_dropped: Annotated[float, "p of eq. 4: share of the training rows whose class is hidden"] = 0.1
    guidance: Annotated[float, "w of eq. 6; 0: no class, 1: no guidance"] = 3.0
    sampling_steps: Annotated[int, "steps of eq. 7, 1 to 1000"] = 50
    recipe: Annotated[DiffusionRecipe, "how it is trained"] = DiffusionRecipe(
        epochs=200,
        steps=1000,
        batch=64,
        learning_rate=1e-4,
        weight_decay=0.01,
        clip=1.0,
        balanced=1.0,
        most_repeats=10.0,
        ema=0.9999,
    )
    augment: Augmented = Augment()


_SMALL: dict[str, Any] = {
    "side_px": 64,
    "blocks": 1,
    "prediction": "v_prediction",
    "recipe": {
        "epochs": 30,
        "steps": 0,
        "most_steps": 172,
        "batch": 32,
        "learning_rate": 1e-3,
        "schedule": "one_cycle",
        "warm_up": 0.05,
        "cached_views": 2,
        "ema": 0.999,
    },
}


class LatentDiffusion(Generator, Network, nn.Module):
    """Eqs. 1 to 9.

    Args:
        config: options.
        sizes: the classes.

    Attributes:
        autoencoder: E and D of eqs. 1 and 8, not trained; None for pixels.
        unet: e', with one class more than there are, for none.
        mean, sd: m and s of eq. 1, (1, C, 1, 1).
        reach: r of eq. 7, ().
        kept: a_t of eq. 3, (T,).

    Raises:
        ConfigError: settings that do not go together, or diffusers is not installed.
    """

    TASK = "generate"
    READS = ("image",)
    CONFIG = Config
    WEIGHTS_OF = PARTS
    PRESETS: ClassVar[Presets] = {
        "dermae": {},
        "quick": {
            **_SMALL,
            "autoencoder": "taef2",
            "autoencoder_licence": "MIT, madebyollin/taesd",
            "width": 64,
            "levels": "1a-2",
        },
        "pixels": {
            **_SMALL,
            "autoencoder": _NO_AUTOENCODER,
            "autoencoder_licence": "",
            "width": 32,
            "levels": "1-1-2-2a",
        },
    }

    mean: torch.Tensor
    sd: torch.Tensor
    reach: torch.Tensor
    kept: torch.Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        recipe.check(config)
        _check(config)
        self.config, self.none = config, len(sizes.answers)
        latent = config.autoencoder != _NO_AUTOENCODER
        self.autoencoder = Autoencoder(config.autoencoder) if latent else None
        self.channels = KINDS[config.autoencoder].channels if latent else 3
        self.side = _side(config)
        multiples, with_attention = _levels(config)
        self.unet = diffusers().UNet2DModel(
            sample_size=self.side,
            in_channels=self.channels,
            out_channels=self.channels,
            block_out_channels=tuple(config.width * multiple for multiple in multiples),
            layers_per_block=config.blocks,
            down_block_types=tuple("AttnDownBlock2D" if own else "DownBlock2D" for own in with_attention),
            up_block_types=tuple("AttnUpBlock2D" if own else "UpBlock2D" for own in reversed(with_attention)),
            attention_head_dim=_GROUPS,
            norm_num_groups=_GROUPS,
            num_class_embeds=self.none + 1,
        )
        self.register_buffer("mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("sd", torch.ones(1, self.channels, 1, 1))
        self.register_buffer("reach", torch.tensor(1.0))
        self.register_buffer("kept", self._scheduler(1.0).alphas_cumprod, persistent=False)

    @classmethod
    def default_weights(cls, config: Config) -> str:
        """Those of the autoencoder."""
        return "" if config.autoencoder == _NO_AUTOENCODER else config.autoencoder

    @classmethod
    def may_start_at_random(cls, config: Config) -> bool:
        """Without an autoencoder."""
        return config.autoencoder == _NO_AUTOENCODER

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over the weights of the autoencoder.

        Raises:
            InputError: they are another network's, or it has none.
        """
        if self.autoencoder is None:
            raise InputError(
                f"{source}, for a diffusion of pixels",
                "no weights: it starts from random numbers",
                "leave --weights out, or give --settings autoencoder=taef2 or another one",
            )
        self.autoencoder.start(state, source)
        return f"random numbers, behind the autoencoder {self.config.autoencoder} of {source}"

    def phases(self) -> tuple[Phase, ...]:
        """One."""
        views = self.config.recipe.cached_views if self.autoencoder is not None else 0
        return (recipe.phase("all", self.config, cached_views=views),)

    # ------------------------------------------------------------------------------------------------- latents
    def encode(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, C, h, h) E(x) of eq. 1: of photos, or as they were encoded before."""
        if LOWER in batch:
            return batch[LOWER].reshape(-1, self.channels, self.side, self.side)
        image = batch["image"]
        if self.autoencoder is None:
            return image
        with torch.autocast(image.device.type, enabled=False), torch.no_grad():
            return self.autoencoder.encode(image.float())

    def lower(self, batch: Mapping[str, torch.Tensor], *, versions: bool) -> torch.Tensor:
        """(n, 1, C h h) E(x), which is kept for all epochs."""
        return self.encode(batch).flatten(1)[:, None]

    def measure(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        """Eq. 1's m and s, and r of eq. 7."""
        n, total, squares = 0, torch.zeros(self.channels).double(), torch.zeros(self.channels).double()
        lowest, highest = torch.full((self.channels,), torch.inf), torch.full((self.channels,), -torch.inf)
        for batch in batches:
            latents = self.encode(batch).float().cpu()
            n += latents.numel() // self.channels
            total += latents.double().sum((0, 2, 3))
            squares += latents.double().square().sum((0, 2, 3))
            lowest = torch.minimum(lowest, latents.amin((0, 2, 3)))
            highest = torch.maximum(highest, latents.amax((0, 2, 3)))
        mean = total / n
        sd = (squares / n - mean.square()).clamp(min=0).sqrt().clamp(min=_SMALLEST_SPREAD)
        self.mean.copy_(mean.view_as(self.mean))
        self.sd.copy_(sd.view_as(self.sd))
        self.reach.fill_(float((torch.maximum(highest - mean, mean - lowest) / sd).max()))

    # ---------------------------------------------------------------------------------------------- diffusion
    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 4 or 5."""
        z = (self.encode(batch).float() - self.mean) / self.sd  # eq. 1
        n, device = len(z), z.device
        t = torch.randint(_NOISE_STEPS, (n,), device=device)
        noise = torch.randn_like(z)
        hidden = torch.rand(n, device=device) < self.config.class_dropped
        label = torch.where(hidden, self.none, batch[TRUTH])
        kept = self.kept[t].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * z + (1 - kept).sqrt() * noise  # eq. 2
        of_noise = self.config.prediction == "epsilon"
        target = noise if of_noise else kept.sqrt() * noise - (1 - kept).sqrt() * z  # eq. 5
        error = (self.unet(noisy, t, class_labels=label).sample.float() - target).square().mean((1, 2, 3))
        loss: torch.Tensor = (loss_weights(self.kept, self.config.min_snr, of_noise=of_noise)[t] * error).mean()
        return loss

    def guided(self, z: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Eq. 6, of v as well.

        Args:
            z: (n, C, h, h).
            t: ().
            label: (n,).
        """
        both = torch.cat([torch.full_like(label, self.none), label])
        without, given = self.unet(torch.cat([z, z]), t, class_labels=both).sample.float().chunk(2)
        out: torch.Tensor = without + self.config.guidance * (given - without)
        return out

    def synthesise(self, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Eqs. 6 to 8."""
        shape = (self.channels, self.side, self.side)
        z = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        z, label = z.to(self.mean.device), torch.tensor(list(labels), device=self.mean.device)
        scheduler = self._scheduler(float(self.reach))
        scheduler.set_timesteps(self.config.sampling_steps, device=z.device)
        for t in scheduler.timesteps:
            answer = self.guided(z, t, label)
            z = scheduler.step(answer, t, z, use_clipped_model_output=True).prev_sample  # eq. 7
        latents = self.sd * z + self.mean
        image = latents if self.autoencoder is None else self.autoencoder.decode(latents)  # eq. 8
        bytes_: torch.Tensor = (image.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
        return bytes_.cpu().numpy()

    def _scheduler(self, reach: float) -> Any:
        """Eqs. 3 and 7."""
        return diffusers().DDIMScheduler(
            num_train_timesteps=_NOISE_STEPS,
            beta_schedule=_SCHEDULE,
            prediction_type=self.config.prediction,
            clip_sample=True,
            clip_sample_range=reach,
        )


def loss_weights(kept: torch.Tensor, most: float, *, of_noise: bool) -> torch.Tensor:
    """w_t of eq. 4, or of eq. 5 where the network does not answer the noise.

    Args:
        kept: (T,) a_t.
        most: g.
        of_noise: whether the network answers the noise.
    """
    snr = kept / (1 - kept)
    return snr.clamp(max=most) / (snr if of_noise else snr + 1)


def _side(config: Config) -> int:
    """Side of what is noised."""
    return config.side_px if config.autoencoder == _NO_AUTOENCODER else config.side_px // FACTOR


def _levels(config: Config) -> tuple[list[int], list[bool]]:
    """Of each level its multiple of the width, and whether it has attention.

    Raises:
        ConfigError: they are not written so.
    """
    levels = [_LEVEL.fullmatch(text) for text in config.levels.split("-")]
    read = [(int(level[1]), bool(level[2])) for level in levels if level]
    if len(read) < len(levels):
        found = f"levels = {config.levels!r}"
        raise ConfigError(found, "multiples of the width, each with an a or without", "write levels=1-2a-3a-4")
    return [multiple for multiple, _ in read], [attention for _, attention in read]


def _check(config: Config) -> None:
    """Refuse settings that do not go together, with :class:`ConfigError`."""
    levels = len(_levels(config)[0])
    multiple = (1 if config.autoencoder == _NO_AUTOENCODER else FACTOR) << (levels - 1)
    if config.side_px % multiple:
        raise ConfigError(
            f"side_px = {config.side_px}, levels = {config.levels!r}, autoencoder = {config.autoencoder}",
            f"a side that {multiple} divides: it is halved for each level, and an autoencoder makes it an eighth",
            "correct the settings",
        )
    if config.width < _GROUPS or config.width % _GROUPS or config.blocks < 1:
        found = f"width = {config.width}, blocks = {config.blocks}"
        raise ConfigError(found, f"a multiple of {_GROUPS}, and a block or more", "width=64 fits two processor cores")
    if not (0 <= config.class_dropped < 1 and config.guidance >= 0 and config.min_snr > 0):
        raise ConfigError(
            f"class_dropped = {config.class_dropped}, guidance = {config.guidance}, min_snr = {config.min_snr}",
            "a share from 0 to below 1, a guidance of 0 or more, and a min_snr above 0",
            "correct the settings",
        )
    if config.guidance != 1 and not config.class_dropped:
        raise ConfigError(
            f"guidance = {config.guidance} with class_dropped = 0",
            "a network that has learnt to do without a class, or no guidance",
            "give --settings class_dropped=0.1, or guidance=1",
        )
    if not 1 <= config.sampling_steps <= _NOISE_STEPS:
        raise ConfigError(
            f"sampling_steps = {config.sampling_steps}", f"1 to {_NOISE_STEPS}", "50 is enough for most photos"
        )


MODEL = LatentDiffusion
