"""Frozen multi-scale probe: a backbone that is not trained, and one logistic regression.

Paper:
    None of its own. Linear probes: G. Alain and Y. Bengio, "Understanding intermediate layers using linear classifier
    probes", 2016, arXiv:1610.01644. Signed square root: F. Perronnin, J. Sanchez and T. Mensink, "Improving the Fisher
    kernel for large-scale image classification", ECCV 2010, doi 10.1007/978-3-642-15561-1_11.

Idea:
    An ImageNet network already sees colour, texture and shape at several scales; with few lesions it is better to learn
    only how to weigh what it sees. The metadata joins the same linear model, weighted up so that the strong penalty
    that thousands of image columns need does not silence it.

Equations:
    (1) e(x) = 1/2 sum over {x, mirrored x} of [GAP(F2); GAP(F3); GAP(F4); max(F4)]     F_l: stage l of the backbone
    (2) g = sign(e) sqrt(|e|), standardised on the training rows
    (3) u = [g; w_a a; w_r r]                        a: attributes, r: radiomic features, standardised; weights w
    (4) p = softmax(W u + b)
    (5) min over W, b:  1/2 |W|^2 - C sum_i sum_v s_v n/(K n_{y_i}) log p_{y_i}(u_iv)         class-balanced log loss
                        v: attributes as they are, without the patient block, all unknown; s_v: how often that counts

Shapes:
    image uint8 (n, side, side, 3) -> e (n, 5632) for resnet50, (n, 1408) for resnet18, (n, 2688) for mobilenet_v2;
    attributes (n, a), radiomics (n, r); p (n, K).

Departures:
    With fewer rows than columns eq. 5 is solved in the span of the training rows (the optimum lies there, because the
    penalty is rotation-invariant), which is exact and several times faster. A class without a training row gets
    probability 0.
    Each training case also counts without its patient block and without any attribute (``hidden_block``, ``hidden``): a
    linear model that has always seen metadata reads their absence as a class of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from skinkit.artifacts.files import write_atomic
from skinkit.artifacts.tensors import load_tensors
from skinkit.errors import ConfigError
from skinkit.models.parts.frozen import FrozenReader, Head
from skinkit.models.parts.inputs import (
    HiddenAttributes,
    HiddenBlock,
    joined,
    linear_contributions,
    refuse_hidden,
    widths_of,
)
from skinkit.models.parts.protocol import Frozen, Labelled, SidePx
from skinkit.models.parts.weights import TIMM
from skinkit.stats.encoders import Standardiser
from skinkit.stats.metrics import Floats
from skinkit.stats.regression import balanced_regression, log_probabilities

if TYPE_CHECKING:
    import torch

_TINY = 1e-12
"""Bounds the slope of the root at 0, where heatmaps need one."""
_SIGNED = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Config:
    """Options of the probe."""

    backbone: Frozen = "resnet50"
    side_px: SidePx = 320
    normalisation: Annotated[
        Literal["imagenet", "signed"],
        "what the weights expect: ImageNet mean and standard deviation (of timm its own), or -1 to 1",
    ] = "imagenet"
    c: Annotated[float, "C of eq. 5; smaller is a stronger penalty"] = 6e-4
    attribute_weight: Annotated[float, "w_a of eq. 3"] = 10.0
    radiomics_weight: Annotated[float, "w_r of eq. 3"] = 10.0
    hidden_block: HiddenBlock = 0.3
    hidden: HiddenAttributes = 0.15


# ------------------------------------------------------------------------------------------------- the backbone


def _multi_scale(config: Config) -> Any:
    """The network of eq. 1 with untrained weights."""
    import torch
    from PIL import Image
    from torch import nn

    from skinkit.models.parts.backbone import Backbone, register_normalisation

    if config.side_px < 32:
        raise ConfigError(f"side_px = {config.side_px}", "at least 32 pixels", "use 224 or 320")
    backbone = Backbone(config.backbone, config.side_px)
    if config.normalisation == "signed":
        register_normalisation(backbone, *_SIGNED)
    backbone.mean, backbone.sd = 255 * backbone.mean, 255 * backbone.sd  # it is given bytes

    class MultiScale(nn.Module):
        """Eq. 1."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone
            self.last = backbone.last
            self.eval().requires_grad_(False)
            self.to(memory_format=torch.channels_last)  # 1.7 times as fast on a CPU, same features to 1e-5

        @property
        def net(self) -> nn.Module:
            """The network under its library's names."""
            return self.backbone.net

        def prepare(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            side = config.side_px
            return np.array(Image.fromarray(rgb).resize((side, side), Image.Resampling.BILINEAR))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """uint8 (n, side, side, 3) -> float32 (n, width)."""
            x = images.permute(0, 3, 1, 2).float()
            x = torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last)
            maps = self.backbone(x)
            pooled = [*(m.mean((2, 3)) for m in maps[-3:]), maps[-1].amax((2, 3))]  # GAP, then the maximum
            both = torch.cat(pooled, 1)
            return both.view(2, len(images), -1).mean(0)

    return MultiScale()


# ------------------------------------------------------------------------------------------------- the regression


@dataclass(frozen=True)
class Probe(FrozenReader):
    """A fitted probe.

    Attributes:
        config: its options.
        weight: (K, columns) W of eq. 4, for u without the weights w.
        bias: (K,) b.
        image: standardiser of eq. 2.
        widths: columns of each input in u, in order.
    """

    TASK = "classify"
    READS = ("image", "attributes", "radiomics")
    CONFIG = Config
    TASKS = True
    STEEP = _TINY

    config: Config
    weight: Floats
    bias: Floats
    image: Standardiser
    widths: Mapping[str, int]

    @classmethod
    def network(cls, config: Config) -> Any:
        """Eq. 1."""
        return _multi_scale(config)

    @classmethod
    def embedding_key(cls, config: Config) -> dict[str, Any]:
        """What decides eq. 1 beside the weights."""
        edition = 2 if config.backbone.startswith(TIMM) else 1  # since the closing convolution belongs to the backbone
        return {
            "features": edition,
            "backbone": config.backbone,
            "side_px": config.side_px,
            "norm": config.normalisation,
        }

    @classmethod
    def fit(cls, config: Config, train: Labelled, validation: Labelled, *, n_classes: int, seed: int) -> Self:
        """Fit eq. 5 on the training rows; the problem is convex, so neither validation rows nor a seed are needed."""
        shares = {"block_hidden": config.hidden_block, "all_hidden": config.hidden}
        refuse_hidden(config.hidden_block, config.hidden)
        roots = signed_sqrt(train.inputs["image"])
        width = roots.shape[1]
        image = Standardiser.fit([f"image_{j}" for j in range(width)], roots, [0.0] * width)
        scales = {"image": 1.0, "attributes": config.attribute_weight, "radiomics": config.radiomics_weight}
        parts = {
            "image": image.apply(roots),
            "attributes": train.inputs["attributes"],
            "radiomics": train.inputs["radiomics"],
        }
        widths = widths_of(parts, cls.READS)
        scale = np.concatenate([np.full(widths[name], scales[name]) for name in parts])
        attributes = {"": parts["attributes"]}
        if widths["attributes"]:
            attributes |= {name: train.inputs[name] for name, share in shares.items() if share and name in train.inputs}
        counted = {"": 1 - sum(shares[name] for name in attributes if name), **shares}
        u = np.concatenate([joined({**parts, "attributes": values}, cls.READS) for values in attributes.values()])
        weights = np.repeat([counted[name] for name in attributes], len(train.labels))
        labels = np.tile(train.labels, len(attributes))
        weight, bias = balanced_regression(u * scale, labels, n_classes, config.c, weights)
        return cls(config, weight * scale, bias, image, widths)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`."""
        import json

        about = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
        tensors = load_tensors(folder / "probe.safetensors")
        mean, scale = tensors["image.mean"], tensors["image.scale"]
        names = tuple(f"image_{j}" for j in range(len(mean)))
        image = Standardiser(names, (0.0,) * len(mean), tuple(mean.tolist()), tuple(scale.tolist()))
        return cls(Config(**about["config"]), tensors["weight"], tensors["bias"], image, about["widths"])

    def predict(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, K) log-probabilities, eq. 4."""
        return log_probabilities(self._inputs(batch) @ self.weight.T + self.bias)

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """W u taken apart by column; the image in one piece. Exact, because eq. 4 is linear in u."""
        return linear_contributions(self._inputs(batch), self.weight, self.bias, self.widths, summed=("image",))

    def features(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, columns) u of eq. 3."""
        weights = {"image": 1.0, "attributes": self.config.attribute_weight, "radiomics": self.config.radiomics_weight}
        out: Floats = self._inputs(batch) * np.repeat(
            [weights[name] for name in self.widths], list(self.widths.values())
        )
        return out

    def _inputs(self, batch: Mapping[str, np.ndarray]) -> Floats:
        return joined({**batch, "image": self.image.apply(signed_sqrt(batch["image"]))}, self.READS)

    def save(self, folder: Path) -> None:
        """``probe.safetensors`` and ``probe.json``."""
        import dataclasses
        import json

        from safetensors.numpy import save

        tensors = {
            "weight": self.weight,
            "bias": self.bias,
            "image.mean": np.array(self.image.mean),
            "image.scale": np.array(self.image.scale),
        }
        write_atomic(folder / "probe.safetensors", save(tensors))
        about = {"config": dataclasses.asdict(self.config), "widths": dict(self.widths)}
        write_atomic(folder / "probe.json", json.dumps(about, indent=1, sort_keys=False).encode())

    def head(self, embedder: Any, offset: Floats, temperature: float) -> Head:
        """Its columns of the photo."""
        mean, sd = np.array(self.image.mean), np.array(self.image.scale)
        return Head(self.weight[:, : len(mean)], mean, sd, offset, temperature)


def signed_sqrt(values: np.ndarray) -> Floats:
    """Eq. 2 before standardising."""
    values = values.astype(np.float64)
    out: Floats = np.sign(values) * np.sqrt(np.abs(values))
    return out


MODEL = Probe
