"""Soft attention: two photos of a lesion and patient data, three branches that each answer, several tasks at once.

Paper:
    Omeroglu et al., "A novel soft attention-based multi-modal deep learning framework for multi-label skin lesion
    classification", Engineering Applications of Artificial Intelligence 120, 2023. Module: S. Datta et al., "Soft
    Attention Improves Skin Cancer Classification Performance", arXiv:2105.03358. Backbone: F. Chollet, "Xception: Deep
    Learning with Depthwise Separable Convolutions", CVPR 2017, doi 10.1109/CVPR.2017.195. Data and tasks: J. Kawahara
    et al., IEEE JBHI 23(2), 2019, doi 10.1109/JBHI.2018.2824327.

Idea:
    A clinical and a dermoscopic photo each have a network, in which a few learnt maps weigh the places before the last
    stage and after it. Each photo answers alone, and both together with what is known of the patient do so a third
    time; the answer is the mean of the three.

Equations:
    (1) t'_k = softmax over places of ReLU(W_k * t)      k = 1 .. K; W: 3 x 3 x d
    (2) alpha = sum over k of t'_k                       its sum over places is K
    (3) alpha' = alpha, or h w alpha / K                 ``rescale``
    (4) o = t + gamma t alpha'                           SA: soft attention; gamma: learnt, 0.01 at first
    (5) F_v = SA(E_2(SA(E_1(x_v))))                      v: clinical, dermoscopic; E_2: the last stage of E
    (6) h_v = pool(F_v),   J = [F_c; F_d],   h_j = [pool(SA(ReLU BN C_1 J)); pool(SA(J)); M]
    (7) p_tb = softmax(W_tb h_b)                         t: task; b: branch c, d or j
    (8) p_t = mean over b of p_tb,   L = mean over b of sum over t of CE(p_tb, y_t)

Shapes:
    image_clinical, image_dermoscopic (n, 3, S, S), 0 to 1; attributes M (n, a); t (n, d, h, w). With
    ``modified_xception`` and S = 299: E_1 (n, 728, 19, 19), F_v (n, 2048, 10, 10), C_1 4096 -> 728; with 24 answers of
    eight tasks and 17 columns 23.7 million parameters.

Departures:
    The seed is a digest of the paper and a script that cannot be built. Its softmax runs over the K maps, so that alpha
    is 1 everywhere; here it runs over places. Its gamma starts at 0 outside of any layer, so that it is never learnt;
    its one softmax over all answers mixes the tasks. Here each task has its own. Kernel, K = 16 and ReLU of eq. 1 are
    those of Datta et al., who concatenate t and alpha t; the seed's sum is kept. Each branch has a loss of its own, and
    rows whose truth is unknown are left out of a task's. ``pool=gap`` takes the mean over places; the seed's
    ``flatten`` gives the third branch 11.6 million weights for a few hundred cases. Of Xception the middle flow keeps
    one of eight blocks, as the seed says; "two layers" of the exit flow are taken to be its pooling and its classes.
    Augmentation, schedule and starting weights are not reported: photos vary independently of each other, and training
    stops after 20 epochs without a better validation score. Photos are read to their edge: the authors of
    derm7pt cut a border of 25 px off, for its black frames. ``fusion`` and ``attention`` leave parts out, for ablation;
    ``share_backbone`` is the seed's script. Any backbone may stand for Xception, with SA at the same two places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models.parts.backbone import MODIFIED_XCEPTION, STAGES, Maps
from skinkit.models.parts.class_weights import effective_class_prior, log_frequencies
from skinkit.models.parts.losses import cross_entropy_of_known
from skinkit.models.parts.photo_classifier import PhotoClassifier, PhotoConfig
from skinkit.models.parts.protocol import DIAGNOSIS, Augment, Presets, Sizes, truth_name
from skinkit.models.parts.recipe import LIVE, QUICK, Augmented, PhotoRecipe, merged
from skinkit.models.parts.soft_attention import SoftAttention
from skinkit.options import Help

_BETWEEN = STAGES - 2
"""Stage after which the first attention comes."""
_JOINED = 728
"""Channels of C_1 of eq. 6."""


@dataclass(frozen=True)
class Config(PhotoConfig):
    """Options of the network."""

    backbone: Annotated[str, "E: modified_xception, torchvision's name, or timm/ and timm's"] = MODIFIED_XCEPTION
    side_px: Annotated[int, "photos are resized to this square, pixels"] = 299
    recipe: Annotated[PhotoRecipe, "how it is trained"] = PhotoRecipe(
        epochs=150, batch=32, optimiser="adam", learning_rate=1e-4, patience=20
    )
    augment: Augmented = Augment(
        rotation_deg=180.0, smallest_scale=0.9, largest_scale=1.1, brightness=0.1, contrast=0.1, saturation=0.1
    )
    fusion: Annotated[
        Literal["hybrid", "concat", "clinical", "dermoscopic"],
        "hybrid: three branches; concat: both photos side by side, and the metadata; or one photo alone",
    ] = "hybrid"
    attention: Annotated[bool, "eqs. 1 to 4; else o = t"] = True
    maps: Annotated[int, "K of eq. 1"] = 16
    gamma: Annotated[float, "of eq. 4 at the beginning"] = 0.01
    rescale: Annotated[bool, "eq. 3: attention of mean 1 instead of K / (h w)"] = False
    pool: Annotated[Literal["gap", "flatten"], "of eq. 6: mean over places, or all of them"] = "gap"
    share_backbone: Annotated[bool, "one network for both photos"] = False
    task_adjustment: Annotated[
        float,
        Help(
            "recipe.logit_adjustment of the further tasks; with 1 they are answered as if their classes were equally "
            "frequent, which raises balanced accuracy and costs accuracy and calibration",
            if_given=True,
        ),
    ] = 0.0


class SoftAttentionNetwork(PhotoClassifier):
    """Eqs. 1 to 8.

    Attributes:
        PHOTOS: names of the two pictures; ``fusion`` may name one of them.
        between: SA after E_1, of each photo that is read.
        after: SA after E_2, likewise.
        first_last: changes nothing; the first photo's F passes through it where both are read.
        joining: ReLU BN C_1 of eq. 6.
        joint: both SA of h_j.
        outputs: branch -> task -> W of eq. 7.
    """

    TASK = "classify"
    READS = ("image_clinical", "image_dermoscopic", "attributes")
    MISSING = "indicator"
    CONFIG = Config
    TASKS = True
    PHOTOS: ClassVar[tuple[str, str]] = ("clinical", "dermoscopic")
    PRESETS: ClassVar[Presets] = {
        "omeroglu2023": {},
        "quick": merged(
            QUICK,
            LIVE,
            {"turned": False, "rescale": True, "recipe": {"epochs": 12, "final_epochs": 12, "most_steps": 150}},
        ),
    }

    def __init__(self, config: Config, sizes: Sizes) -> None:
        if config.maps < 1:
            raise ConfigError(f"maps = {config.maps}", "1 or more", "16 is what Datta et al. use")
        if config.recipe.snapshot_every or config.recipe.cached_views:
            raise ConfigError(
                f"snapshot_every = {config.recipe.snapshot_every}, cached_views = {config.recipe.cached_views}",
                "0 of both: they are of networks that read one photo",
                "leave them out",
            )
        super().__init__(config, sizes)
        self.first_last = nn.Identity()
        views, width, of_maps = self._views(config), self.backbones[0].widths[-1], self._shapes[0]
        places = math.prod(of_maps[1:])
        pooled = places if config.pool == "flatten" else 1
        if config.attention:
            self.between = nn.ModuleDict({view: self._attention(self.backbones[0].widths[_BETWEEN]) for view in views})
            self.after = nn.ModuleDict({view: self._attention(width) for view in views})
        branches = dict.fromkeys(views, pooled * width) if config.fusion != "concat" else {}
        if config.fusion == "concat":
            branches["joint"] = pooled * 2 * width + self.columns
        elif config.fusion == "hybrid":
            convolution = nn.Conv2d(2 * width, _JOINED, 1, bias=False)
            self.joining = nn.Sequential(convolution, nn.BatchNorm2d(_JOINED), nn.ReLU())
            if config.attention:
                self.joint = nn.ModuleList([self._attention(_JOINED), self._attention(2 * width)])
            branches["joint"] = pooled * (_JOINED + 2 * width) + self.columns
        asked = {DIAGNOSIS: sizes.answers, **sizes.tasks}
        for task in sizes.tasks:
            adjustment = config.task_adjustment * log_frequencies(self._sizes_of(task))
            self.register_buffer(f"adjustment_of_{task}", adjustment, persistent=False)
        self.outputs = nn.ModuleDict(
            {
                branch: nn.ModuleDict({task: nn.Linear(features, len(classes)) for task, classes in asked.items()})
                for branch, features in branches.items()
            }
        )

    @classmethod
    def _views(cls, config: Any) -> tuple[str, ...]:
        """Photos that are read."""
        return (config.fusion,) if config.fusion in cls.PHOTOS else cls.PHOTOS

    def _attention(self, channels: int) -> SoftAttention:
        c = self.config
        return SoftAttention(channels, c.maps, gamma=c.gamma, rescale=c.rescale)

    def _kept_shapes(self) -> tuple[torch.Size, ...]:
        """Refuse a backbone that is another network when it is run stage by stage, then as the base class."""
        backbone, side = self.backbones[0], self.config.side_px
        mode = backbone.training
        x = self.picture(torch.linspace(0, 1, 3 * side * side).view(1, 3, side, side))
        backbone.eval()
        try:
            with torch.no_grad():
                maps = backbone.staged(x, lambda _, maps: maps)[-1]
                whole = backbone(x)[-1]
                size = float(whole.abs().max())
                same = maps.shape == whole.shape and size > 0 and float((maps - whole).abs().max()) <= 1e-3 * size
        except (RuntimeError, AssertionError, ValueError, TypeError):
            same = False
        backbone.train(mode)
        if not same:
            raise ConfigError(
                f"backbone {backbone.name}, whose stages do more than read one another's maps",
                "a network that can be run stage by stage, such as modified_xception, a ResNet or an EfficientNet",
                "name another backbone",
            )
        return super()._kept_shapes()

    @classmethod
    def backbone_names(cls, config: Config) -> tuple[str, ...]:
        """One for each photo; a single one is called ``backbone``."""
        two = len(cls._views(config)) == 2 and not config.share_backbone
        return ("backbone", "dermoscopic_backbone") if two else ("backbone",)

    def blocks(self) -> Mapping[str, nn.Module]:
        """Photo -> the layer that its F passes through."""
        if self.config.fusion in self.PHOTOS:
            return {f"image_{self.config.fusion}": self.last}
        return {"image_clinical": self.first_last, "image_dermoscopic": self.last}

    def pictures(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, 3 or 6, S, S) the photos that are read."""
        return torch.cat([batch[f"image_{view}"] for view in self._views(self.config)], 1)

    def feature_maps(self, pictures: torch.Tensor) -> Maps:
        """F of eq. 5 of each photo."""
        seen = []
        for number, view in enumerate(self._views(self.config)):
            backbone = self.backbones[min(number, len(self.backbones) - 1)]
            maps = backbone.staged(
                pictures[:, 3 * number : 3 * number + 3],
                lambda stage, x, view=view: self._attended("between", view, x) if stage == _BETWEEN else x,  # type: ignore[misc]
            )
            seen.append(self._attended("after", view, maps[-1]))
        return tuple(seen)

    def _attended(self, place: str, view: str, maps: torch.Tensor) -> torch.Tensor:
        """SA of a photo's maps; the maps where there is none (yet: the base class asks for shapes before)."""
        layers = self._modules.get(place)
        out: torch.Tensor = layers[view](maps) if isinstance(layers, nn.ModuleDict) else maps
        return out

    def attention_maps(self, batch: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The mean of both alpha of each photo, each scaled to a mean of 1."""
        return {f"image_{view}": alpha for view, alpha in self.alphas(batch).items()}

    def alphas(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """View -> (n, h, w) that mean; none without attention."""
        if not self.config.attention:
            return {}
        found: dict[str, list[torch.Tensor]] = {view: [] for view in self._views(self.config)}
        hooks = []
        for layers in (self.between, self.after):
            for view, of_view in found.items():
                module = layers[view]
                assert isinstance(module, SoftAttention)
                hooks.append(module.seen.register_forward_hook(lambda _, __, alpha, kept=of_view: kept.append(alpha)))
        try:
            with torch.no_grad():
                self.feature_maps(self.pictures(batch))
        finally:
            for hook in hooks:
                hook.remove()
        return {view: _averaged(alphas) for view, alphas in found.items()}

    def keep(self, maps: Maps) -> Maps:
        """All of them."""
        return maps

    def shown(self, maps: Maps) -> Maps:
        """Each through a layer of its own."""
        return (*(self.first_last(m) for m in maps[:-1]), self.last(maps[-1]))

    def branches(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        """Branch -> task -> (n, K_t) logits of eq. 7, of what :meth:`encode` sees and attributes (n, a)."""
        maps = dict(zip(self._views(self.config), self.unpacked(seen), strict=True))
        features = {view: self._pooled(m) for view, m in maps.items()}
        if len(maps) == 2:
            joined = torch.cat(list(maps.values()), 1)
            parts = [joined]
            if self.config.fusion == "hybrid":
                parts = [self.joining(joined), joined]
                if self.config.attention:
                    parts = [attention(part) for attention, part in zip(self.joint, parts, strict=True)]
            tables = [self.attributes(batch)] if self.columns else []
            features["joint"] = torch.cat([*(self._pooled(part) for part in parts), *tables], 1)
        return {
            branch: {task: layer(features[branch]) for task, layer in layers.items()}  # type: ignore[operator]
            for branch, layers in self.outputs.items()
        }

    def _pooled(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(1) if self.config.pool == "flatten" else maps.mean((2, 3))

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 6 to 8: task -> (n, K_t) logarithms of p_t."""
        branches = list(self.branches(seen, batch).values())
        count = math.log(len(branches))
        return {
            task: torch.stack([of[task].float().log_softmax(1) for of in branches]).logsumexp(0) - count
            for task in branches[0]
        }

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """L of eq. 8; the diagnosis is weighted by class, with smoothed labels, as the recipe says."""
        losses = []
        for of in self.branches(self.seen(batch), batch).values():
            tasks = [
                cross_entropy_of_known(logits.float() + self._adjustment_of(task), batch[truth_name(task)])
                for task, logits in of.items()
                if task != DIAGNOSIS
            ]
            losses.append(sum(tasks, self.weighted(of[DIAGNOSIS], batch)))
        return torch.stack(losses).mean()

    def effective_task_prior(self, task: str) -> torch.Tensor:
        """(classes,) shares for which a further task's probabilities hold."""
        return effective_class_prior(self._sizes_of(task), (-self._adjustment_of(task)).exp())

    def _adjustment_of(self, task: str) -> torch.Tensor:
        out: torch.Tensor = getattr(self, f"adjustment_of_{task}")
        return out

    def _sizes_of(self, task: str) -> Sizes:
        """Classes and counts of a further task as if it were the diagnosis."""
        return Sizes(self.sizes.tasks[task], class_counts=self.sizes.task_counts.get(task, ()))


def _averaged(alphas: Sequence[torch.Tensor]) -> torch.Tensor:
    """(n, h, w) the mean of maps (n, 1, h, w), each scaled to a mean of 1, at the size of the first and finest."""
    scaled = [alpha / alpha.mean((2, 3), keepdim=True) for alpha in alphas]
    finest = scaled[0].shape[2:]
    same = [functional.interpolate(each, size=finest, mode="bilinear", align_corners=False) for each in scaled]
    return torch.stack(same).mean(0)[:, 0]


MODEL = SoftAttentionNetwork
