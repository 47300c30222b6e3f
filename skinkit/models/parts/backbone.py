"""Convolutional backbones of torchvision, cut into the stages of their last four resolutions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError, did_you_mean
from skinkit.models.parts.weights import IMAGENET_MEAN, IMAGENET_SD, PUBLIC, load_into

SMALLEST_SIDE_PX = 32
"""One pixel after the five halvings of a backbone."""
STAGES = 4
Maps = tuple[torch.Tensor, ...]
_HEADS = ("fc", "classifier")
HEAD = "head"
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d\.)")
"""The public weights of DenseNets have names that torchvision itself no longer uses."""


# ------------------------------------------------------------------------------------------------- the backbone
class Backbone(nn.Module):
    """A torchvision network without its classes.

    Args:
        name: of the network; one that has ``features`` or ``layer4``.

    Attributes:
        net: the network under torchvision's names.
        stages: children of its trunk, stage by stage.
        widths: channels of each stage.

    Raises:
        ConfigError: no such network, or one of another build (transformers).
    """

    mean: torch.Tensor
    sd: torch.Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.net = _untrained(name)
        self.stages, self.widths = _cut(self._trunk)
        register_imagenet(self)

    @property
    def _trunk(self) -> nn.Module:
        trunk: nn.Module = getattr(self.net, "features", self.net)
        return trunk

    @property
    def last(self) -> nn.Module:
        """The module whose answer is the last stage's maps."""
        return self.block(self.stages[-1][-1])

    def block(self, name: str) -> nn.Module:
        """A child of the trunk."""
        return self._trunk.get_submodule(name)

    def forward(self, image: torch.Tensor) -> Maps:
        """(n, 3, S, S) photos, 0 to 1, in RGB -> maps (n, width, s, s) of each stage, in the photos' memory layout."""
        x = (image - self.mean) / self.sd
        maps = []
        for names in self.stages:
            for name in names:
                x = self.block(name)(x)
            maps.append(x)
        if self.name.startswith("densenet"):
            maps[-1] = functional.relu(x)  # torchvision's forward does it outside of features
        return tuple(maps)

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over public weights and say in words which.

        Args:
            state: name -> tensor, under torchvision's names.
            source: the file, for the message.

        Raises:
            InputError: they are another network's; names the first tensor that differs.
        """
        named = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items()}
        load_into(self.net, named, f"{source} is no {self.name}", without=[f"{head}." for head in _HEADS])
        return f"{self.name} of {source}, its classes left out{corruption_note(self.net)}"


def register_imagenet(module: nn.Module) -> None:
    """Give a module the buffers ``mean`` and ``sd``, (1, 3, 1, 1), which its state dict leaves out."""
    for name, values in (("mean", IMAGENET_MEAN), ("sd", IMAGENET_SD)):
        module.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)


def _untrained(name: str) -> nn.Module:
    """A torchvision network whose classes are left out."""
    from torchvision import models as torchvision_models

    available = torchvision_models.list_models(module=torchvision_models)
    net = torchvision_models.get_model(name, weights=None) if name in available else None
    if net is None or not (hasattr(net, "features") or hasattr(net, "layer4")):
        raise ConfigError(
            f"backbone {name!r}" + ("" if net is None else ", which is cut into stages otherwise"),
            did_you_mean(name, sorted({weights.backbone for weights in PUBLIC.values()} & set(available))),
            "name a convolutional network of torchvision",
        )
    for head in _HEADS:
        if hasattr(net, head):
            setattr(net, head, nn.Identity())
    out: nn.Module = net
    return out


def _cut(trunk: nn.Module) -> tuple[tuple[tuple[str, ...], ...], tuple[int, ...]]:
    """The trunk's children grouped by the resolution of their maps, and the channels each group ends with."""
    names = [name for name, _ in trunk.named_children() if name not in (*_HEADS, "avgpool")]
    x, sizes, widths = torch.zeros(1, 3, 2 * SMALLEST_SIDE_PX, 2 * SMALLEST_SIDE_PX), [], []
    trunk.eval()
    with torch.no_grad():
        for name in names:
            x = trunk.get_submodule(name)(x)
            sizes.append(x.shape[-1])
            widths.append(x.shape[1])
    trunk.train()
    groups = [[i for i, _ in group] for _, group in groupby(enumerate(sizes), key=lambda pair: pair[1])]
    stem = [i for group in groups[: -STAGES + 1] for i in group]
    groups = [stem, *groups[-STAGES + 1 :]]
    return tuple(tuple(names[i] for i in group) for group in groups), tuple(widths[group[-1]] for group in groups)


def corruption_note(module: nn.Module) -> str:
    """A warning, to be added to what weights are, where no BatchNorm layer has statistics of its own."""
    means = [m.running_mean for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    if not means or any(bool(mean.any()) for mean in means if mean is not None):
        return ""
    return "; its BatchNorm holds no statistics (untrained, or folded away): training starts from corrupted weights"
