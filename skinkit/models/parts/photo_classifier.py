"""What networks that read a photo and attributes have in common; a paper's file adds its fusion and its equations.

A network of ``skinkit.models`` derives its ``Config`` from :class:`PhotoConfig` and itself from
:class:`PhotoClassifier`, and writes ``head``::

    class Concat(PhotoClassifier):
        def __init__(self, config: Config, sizes: Sizes) -> None:
            super().__init__(config, sizes)
            self.output = nn.Linear(self.backbone.widths[-1] + self.columns, len(sizes.answers))

        def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            (last,) = self.unpacked(seen)
            return {"diagnosis": self.output(torch.cat([last.mean((2, 3)), self.attributes(batch)], 1))}

**Hidden attributes.** In training the attributes of some cases are hidden, all of them (``dropped``) or only the
patient block (``dropped_block``). What is hidden is written exactly as the encoder writes what is unknown, which after
standardising is not zero: the fold's own values are kept in the buffer ``unknown``.

**Stages.** A backbone answers the maps of its last four resolutions, at 1/4, 1/8, 1/16 and 1/32 of the side; of a
ResNet they are layers 1 to 4. A ViT has one resolution and answers the maps after each quarter of its depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import nn

from skinkit.errors import ConfigError
from skinkit.explain.training_snapshot import Snapshot
from skinkit.models.parts import recipe
from skinkit.models.parts.backbone import HEAD, STAGES, Backbone, Maps
from skinkit.models.parts.class_weights import class_weights, costs, effective_class_prior, log_frequencies
from skinkit.models.parts.protocol import LOWER, POSSIBLE, Augment, Network, Phase, SidePx, Sizes
from skinkit.models.parts.recipe import Augmented, PhotoRecipe
from skinkit.stats.encoders import PATIENT_ATTRIBUTES


@dataclass(frozen=True)
class PhotoConfig:
    """Options of training that these networks share; a paper overrides what it does otherwise."""

    backbone: Annotated[str, "network that reads the photo: torchvision's name, or timm/ and timm's"] = "resnet50"
    side_px: SidePx = 224
    recipe: Annotated[PhotoRecipe, "how it is trained"] = PhotoRecipe(
        epochs=150, batch=8, optimiser="sgd", weight_decay=1e-3, schedule="cosine", final_rate=1e-6
    )
    augment: Augmented = Augment(flips=False)
    mirrored: Annotated[bool, "read the photo and its mirror image, and take the mean of their maps"] = False
    turned: Annotated[bool, "read them also turned by 90, 180 and 270 degrees"] = False


# ----------------------------------------------------------------------------------------------- the classifier
class PhotoClassifier(Network, nn.Module):
    """A network that reads ``image`` and ``attributes``; weighted cross-entropy, one phase, or one on the head before.

    A paper's network adds its layers and writes :meth:`head`; where it needs more than the last stage it overrides
    :meth:`keep`, and where its paper has a loss of its own :meth:`loss`.

    Args:
        config: options.
        sizes: what it is built for.

    Attributes:
        sizes: what it was built for.
        backbone: reads the photo.
        last: changes nothing; the last stage's maps pass through it, (n, width, h, w), the mean over versions.
        resting: the backbone is not trained, and its BatchNorm layers keep their statistics.
        columns: width of ``attributes``.
        classes: codes of the classes.
        owners: the attribute behind each column.
        class_weights: (K,) weight of each class in the loss.
        adjustment: (K,) added to the logits in the loss.
        unknown: (columns,) what the encoder writes where nothing is known.
        in_block: (columns,) which belong to the patient block.
        reference_embedding: running mean over training of what :meth:`encode` answers; explanations put it in place
            of a photo.

    Raises:
        ConfigError: a setting that cannot be.
    """

    MASKS_CLASSES = True
    ATTRIBUTES_FOR: ClassVar[str] = ""
    """What in it cannot do without metadata, for the refusal to build it; empty where it can."""

    backbone: Backbone
    class_weights: torch.Tensor
    adjustment: torch.Tensor
    unknown: torch.Tensor
    in_block: torch.Tensor
    reference_embedding: torch.Tensor
    steps_seen: torch.Tensor

    def __init__(self, config: PhotoConfig, sizes: Sizes) -> None:
        super().__init__()
        _check(config)
        if self.ATTRIBUTES_FOR and not sizes.columns.get("attributes"):
            raise ConfigError(
                f"no attributes for {self.ATTRIBUTES_FOR}",
                "metadata of the patients",
                "give --attributes auto, or train concat, which does without",
            )
        self.config: Any = config
        self.sizes = sizes
        seen_px = self.picture(torch.zeros(1, 3, config.side_px, config.side_px)).shape[-1]
        for name in self.backbone_names(config):
            self.add_module(name, Backbone(config.backbone, seen_px))
        if config.recipe.cached_views and any(len(set(backbone.strides)) == 1 for backbone in self.backbones):
            raise ConfigError(
                f"recipe.cached_views = {config.recipe.cached_views} with the backbone {config.backbone}",
                "a backbone whose stages read one another's maps, not tokens",
                "give --settings recipe.cached_views=0",
            )
        self.last = nn.Identity()
        self.resting = False
        self.columns = sizes.columns.get("attributes", 0)
        self.classes = sizes.answers
        self.owners = owners = sizes.attributes or ("",) * self.columns
        weights = class_weights(config.recipe.class_weights, sizes) * costs(config.recipe.costs, sizes)
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("adjustment", config.recipe.logit_adjustment * log_frequencies(sizes), persistent=False)
        self.register_buffer("unknown", torch.tensor(sizes.unknown or (0.0,) * self.columns))
        self.register_buffer(
            "in_block", torch.tensor([owner in PATIENT_ATTRIBUTES for owner in owners], dtype=torch.bool)
        )
        self._shapes = self._kept_shapes()
        width = self._shapes[0] if len(self._shapes) == 1 else sum(shape.numel() for shape in self._shapes)
        self.register_buffer("reference_embedding", torch.zeros(width))
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))

    @classmethod
    def backbone_names(cls, config: Any) -> tuple[str, ...]:
        """Attributes that hold a backbone; one is called ``backbone``."""
        return ("backbone",)

    @property
    def backbones(self) -> list[Backbone]:
        """Those of :meth:`backbone_names`."""
        return [getattr(self, name) for name in self.backbone_names(self.config)]

    @classmethod
    def default_weights(cls, config: PhotoConfig) -> str:
        """ImageNet weights of the backbone."""
        return config.backbone

    @classmethod
    def final_config(cls, config: PhotoConfig) -> PhotoConfig | None:
        """The same settings for ``recipe.final_epochs`` epochs."""
        epochs = config.recipe.final_epochs
        return replace(config, recipe=replace(config.recipe, epochs=epochs)) if epochs else None

    def effective_class_prior(self) -> torch.Tensor:
        """(K,) shares of the classes for which its probabilities hold."""
        adjusted = self.loss_weights * (-self.adjustment).exp()
        r = self.config.recipe
        return effective_class_prior(self.sizes, adjusted, balanced=r.balanced if r.balanced_by == "class" else 0.0)

    @property
    def loss_weights(self) -> torch.Tensor:
        """(K,) by which a case's loss is multiplied for its class."""
        return self.class_weights

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over public weights of the backbone; others raise :class:`InputError`."""
        for backbone in self.backbones:
            said = backbone.start(state, source)
        return said

    def phases(self) -> tuple[Phase, ...]:
        """The head, where that is asked for, then everything; the backbone may have a rate of its own."""
        r = self.config.recipe
        names = self.backbone_names(self.config)
        rates = {f"{name}.": r.learning_rate for name in names} if r.head_learning_rate else {}
        if r.layer_decay < 1:
            of_nets = {name: recipe.layer_rates(getattr(self, name), r.learning_rate, r.layer_decay) for name in names}
            rates |= {f"{name}.net.{of}": rate for name, of_net in of_nets.items() for of, rate in of_net.items()}
        whole = recipe.phase("all", self.config, learning_rate=r.head_learning_rate or r.learning_rate, rates=rates)
        head = replace(
            whole, name=HEAD, epochs=r.head_epochs, rates={}, patience=0, candidates=1.0, averaged=0, snapshot_every=0
        )
        return (head, whole) if r.head_epochs else (whole,)

    def enter(self, phase: str) -> None:
        """The backbone rests while the head learns; its lowest stages, or all of it, may rest throughout."""
        frozen = self.config.recipe.frozen_stages
        self.resting = phase == HEAD or frozen == STAGES
        for backbone in self.backbones:
            backbone.requires_grad_(not self.resting)
            backbone.freeze(frozen % STAGES)

    def train(self, mode: bool = True) -> Self:
        """Into training mode, or out of it; a backbone at rest, or its stages at rest, stay out of it."""
        super().train(mode)
        for backbone in self.backbones:
            if self.resting:
                backbone.eval()
            elif self.config.recipe.frozen_statistics:
                backbone.rest(self.config.recipe.frozen_stages)
        return self

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy of the adjusted logits, weighted by class, with smoothed labels."""
        return self.weighted(self(batch)["diagnosis"], batch)

    def weighted(self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """That loss of logits (n, K)."""
        adjusted = logits.float() + self.adjustment
        return recipe.cross_entropy(self.config, adjusted, batch["class"], self.class_weights, batch.get(POSSIBLE))

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass: ``diagnosis`` (n, K) logits of image (n, 3, S, S), 0 to 1, and attributes (n, columns)."""
        return self.head(self.seen(batch), batch)

    def answer(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What :meth:`head` says of what :meth:`encode` sees."""
        return self.head(self.encode(batch), batch)

    def seen(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What :meth:`head` reads of the photos as they are; training remembers its mean."""
        return self.remembered(self._maps(batch))

    def remembered(self, maps: Maps) -> torch.Tensor:
        """What :meth:`head` reads of the stages' maps; training remembers its mean."""
        packed = self._packed(self.keep(maps))
        if self.training:
            recipe.move_towards(self.reference_embedding.view(-1)[: packed[0].numel()], self.steps_seen, packed)
        return packed

    def encode(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What :meth:`head` reads of the photos; with ``mirrored`` and ``turned`` of the mean over their versions."""
        if LOWER in batch:
            lower = batch[LOWER]
            maps = self._maps({LOWER: lower.transpose(0, 1).flatten(0, 1)})
        else:
            maps = self.feature_maps(torch.cat(self._versions(self.pictures(batch))))
        return self._packed(self.keep(self.shown(tuple(self._upright(m) for m in maps))))

    def shown(self, maps: Maps) -> Maps:
        """The maps as they are, passed through the layers that heatmaps show: the last through ``last``."""
        return (*maps[:-1], self.last(maps[-1]))

    def lower(self, batch: Mapping[str, torch.Tensor], *, versions: bool) -> torch.Tensor:
        """(n, versions, width) of :meth:`skinkit.models.parts.backbone.Backbone.lower`."""
        image = self.picture(batch["image"])
        pictures = self._versions(image) if versions else [image]
        stages = self.config.recipe.frozen_stages
        return torch.stack([self.backbone.lower(picture, stages) for picture in pictures], 1)

    def _maps(self, batch: Mapping[str, torch.Tensor]) -> Maps:
        """The stages' maps of the photos as they are, or of what the frozen ones answered."""
        if LOWER in batch:
            return self.backbone.upper(batch[LOWER], self.config.recipe.frozen_stages)
        return self.feature_maps(self.pictures(batch))

    def _versions(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The photos (n, 3, S, S) in all versions that are read, as they are first."""
        turns = range(4) if self.config.turned else range(1)
        turned = [image.rot90(k, (2, 3)) if k else image for k in turns]
        return [*turned, *(t.flip(3) for t in turned)] if self.config.mirrored else turned

    def _upright(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, width, h, w) the mean over versions of their maps (versions n, width, h, w), each turned back."""
        turns, mirrors = 4 if self.config.turned else 1, 2 if self.config.mirrored else 1
        if turns * mirrors == 1:
            return maps
        straight = [
            (m.flip(3) if mirrored else m).rot90(-k, (2, 3))
            for mirrored, of_turns in enumerate(maps.chunk(mirrors))
            for k, m in enumerate(of_turns.chunk(turns))
        ]
        return sum(straight[1:], straight[0]) / len(straight)

    def picture(self, image: torch.Tensor) -> torch.Tensor:
        """What the backbone reads, of photos (n, 3, S, S): the photos."""
        return image

    def pictures(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, channels, S, S) all that is read of a case, which turns and mirrors together: the photo."""
        return self.picture(batch["image"])

    def feature_maps(self, pictures: torch.Tensor) -> Maps:
        """The maps of :meth:`pictures`; a heatmap shows the last."""
        return self.backbone(pictures)  # type: ignore[no-any-return]

    def keep(self, maps: Maps) -> Maps:
        """What :meth:`head` needs of the stages' maps: the last ones.

        Overridden it may read nothing but ``self.config``, because the base class asks it for its shapes.
        """
        return (maps[-1],)

    def attributes(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, columns); in training some are hidden, each time it is called anew."""
        values, c = batch["attributes"], self.config.recipe
        if not self.training or not (c.dropped or c.dropped_block):
            return values
        draws = torch.rand(2, len(values), 1, device=values.device)
        hidden = (draws[0] < c.dropped) | ((draws[1] < c.dropped_block) & self.in_block)
        return torch.where(hidden, self.unknown.to(values.dtype), values)

    def factors(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """(n, channels) by what metadata weigh the channels of the photo's maps, 0 to 1; None where nothing does."""
        return None

    def snapshot(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> dict[str, Any]:
        """What it rests on at this stage of training.

        Args:
            batches: validation rows, with their class.

        Returns:
            ``importance``, attribute -> mean over cases of |gradient x input| of the log odds of the most probable
            class; ``factors``, class -> ``mean`` and ``histogram`` (20 equal bins) of :meth:`factors`; ``cases``, the
            first case of each class: ``index``, ``class`` and ``heat``, its integrated gradients in at most 56 rows of
            numbers from 0 to 255.
        """
        snapshot = Snapshot(self)
        for batch in batches:
            snapshot.add(batch)
        return snapshot.result()

    def unpacked(self, seen: torch.Tensor) -> Maps:
        """What :meth:`keep` kept, of what :meth:`encode` answers; the last parts may be left out."""
        if len(self._shapes) == 1 or seen.ndim == 4:
            return (seen,)
        ends = accumulate(shape.numel() for shape in self._shapes)
        shapes = [shape for shape, end in zip(self._shapes, ends, strict=True) if end <= seen.shape[1]]
        parts = torch.split(seen, [shape.numel() for shape in shapes], 1)
        return tuple(part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True))

    @staticmethod
    def _packed(parts: Maps) -> torch.Tensor:
        """One tensor, because explanations put its mean in its place."""
        return parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], 1)

    def _kept_shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of what :meth:`keep` keeps of one photo."""
        side = self.config.side_px
        for backbone in self.backbones:
            backbone.eval()
        with torch.no_grad():
            blank = {name: torch.zeros(1, 3, side, side) for name in self.READS if name.startswith("image")}
            blank["mask"] = torch.ones(1, side, side)
            kept = self.keep(self.feature_maps(self.pictures(blank)))
        for backbone in self.backbones:
            backbone.train()
        return tuple(part.shape[1:] for part in kept)


class PooledClassifier(PhotoClassifier):
    """One whose fusion reads the photo as one vector: the last maps' mean over places, (n, width)."""

    def keep(self, maps: Maps) -> Maps:
        """GAP of the last stage's maps."""
        return (maps[-1].mean((2, 3)),)


def as_maps(pooled: torch.Tensor, n: int) -> torch.Tensor:
    """(cases, n, width / n) of pooled features (cases, width).

    Raises:
        ConfigError: the width is no multiple of n.
    """
    width = pooled.shape[1]
    if n < 1 or width % n:
        raise ConfigError(
            f"maps = {n} of {width} features", f"a number that divides {width}", "give --settings maps=32"
        )
    return pooled.view(len(pooled), n, -1)


def _check(config: PhotoConfig) -> None:
    recipe.check(config)
    r = config.recipe
    if not 0 <= r.frozen_stages <= STAGES:
        raise ConfigError(f"recipe.frozen_stages = {r.frozen_stages}", f"0 to {STAGES}", "correct the setting")
    shares = {name: getattr(r, name) for name in ("dropped", "dropped_block", "label_smoothing", "averaged")}
    wrong = [f"recipe.{name} = {value}" for name, value in shares.items() if not 0 <= value < 1]
    if r.cached_views < 0 or (r.cached_views and not (0 < r.frozen_stages < STAGES and r.frozen_statistics)):
        raise ConfigError(
            f"recipe.cached_views = {r.cached_views}, recipe.frozen_stages = {r.frozen_stages}, "
            f"recipe.frozen_statistics = {r.frozen_statistics}",
            "frozen stages with their statistics, whose answers can be kept",
            "give --settings recipe.frozen_stages=3 recipe.frozen_statistics=true, or cached_views=0",
        )
    wrong += [] if 0 <= r.balanced <= 1 else [f"recipe.balanced = {r.balanced}"]
    if not 0 < r.layer_decay <= 1:
        raise ConfigError(f"recipe.layer_decay = {r.layer_decay}", "above 0 to 1", "0.75 is usual; 1 leaves it out")
    if wrong:
        raise ConfigError(", ".join(wrong), "shares, 0 to below 1 (balanced to 1)", "correct the settings")
