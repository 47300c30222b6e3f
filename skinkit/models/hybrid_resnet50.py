"""Photo, lesion mask, radiomic signature and metadata in one ResNet-50, or another backbone.

Paper:
    Z. Wang, C. Wang, L. Peng, K. Lin, Y. Xue, X. Chen, L. Bao, C. Liu, J. Zhang and Y. Xie, "Radiomic and deep learning
    analysis of dermoscopic images for skin lesion pattern decoding", Scientific Reports 14, 2024, PMC11347612.
    Backbone: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, doi 10.1109/CVPR.2016.90.

Idea:
    A few measured features of the lesion and what is known of the patient (fused early, in one vector) meet what a
    convolutional network sees in photo and mask (fused late, before the classes). The network first learns to see, then
    everything learns together.

Equations:
    (1) x = [(RGB - mean) / sd; m],   F = layers 1 to 4 of ResNet-50 (x),   f = GAP(F)            m: lesion mask, 0 or 1
        with another ``backbone`` F is its last maps
    (2) q = [attributes; radiomics],   h = ReLU(W_q q + b_q)                                  h = 0 in the phase `image`
    (3) p = softmax(W_o [f; h] + b_o)
    (4) L = sum_i w_{y_i} l(p_i, y_i) / sum_i w_{y_i},   w_c = N / (K n_c)             l: cross-entropy, n_c: cases of c

Shapes:
    image (n, 3, S, S), 0 to 1; mask (n, S, S); x (n, 4, S, S); f (n, 2048); attributes (n, a), radiomics (n, r);
    h (n, 1024); p (n, K). With S = 128, 12 attributes in q and 8 classes: 23.55 million parameters.

Departures:
    The paper gives "ResNet-50", "1024-d fully connected", "8-channel softmax for quantitative inputs" and about 23
    million parameters; eqs. 1 to 3 are the reading that fits (a 1024-d layer on f instead would make 25.6 million).
    Silent on: how the mask enters (here a fourth input channel whose filter starts as the mean of the colour filters),
    the loss (eq. 4), augmentation (flips, rotation up to 180 degrees, scale 0.9 to 1.1, brightness, contrast and
    saturation 0.1), schedule (cosine to 1e-5), stopping (patience 15 on the validation score) and normalisation
    (ImageNet's). It caps training at 100 epochs and also says 51 + 92: the cap is read per phase, so both hold.
    Site is one-hot, because a number per site invents an order; the paper's 12-d q is ``--attributes isic_ordinal``
    with a signature of nine features, and columns are standardised on the training rows in either.
    The defaults, which are the preset ``wang2024``, are the paper's. Not the paper's, and off unless asked for: 224 px,
    AdamW, one-cycle, label smoothing, square-root class weights, dropped metadata, and the mean over the mirrored
    photo; the preset ``quick`` turns most of them on and learns in a single phase. Nor is any ``backbone`` but
    ``resnet50`` the paper's; f is then as wide as that one's last maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as functional
from torch import nn

from skinkit.errors import ConfigError
from skinkit.models.parts import recipe
from skinkit.models.parts.backbone import Backbone, corruption_note, register_normalisation
from skinkit.models.parts.class_weights import class_weights, effective_class_prior
from skinkit.models.parts.protocol import POSSIBLE, Augment, Network, Phase, Sizes
from skinkit.models.parts.recipe import Augmented, ClassifierRecipe
from skinkit.models.parts.weights import IMAGENET_MEAN, IMAGENET_SD, load_into

_RESNET = "resnet50"
_WIDTH = 2048
_MASK_FILTER = "the filter of the mask is the mean of the colour filters"


@dataclass(frozen=True)
class Config:
    """Options of the hybrid; the defaults are the paper's."""

    backbone: Annotated[str, "network that reads photo and mask: torchvision's name, or timm/ and timm's"] = _RESNET
    side_px: Annotated[int, "photos and masks are resized to this square, pixels"] = 128
    branch_width: Annotated[int, "width of h in eq. 2"] = 1024
    image_epochs: Annotated[int, "most epochs of the phase on photo and mask alone; 0 leaves it out"] = 51
    recipe: Annotated[ClassifierRecipe, "how it is trained; epochs are those of the phase on everything"] = (
        ClassifierRecipe(
            epochs=92,
            batch=8,
            optimiser="sgd",
            learning_rate=0.002,
            weight_decay=1e-4,
            schedule="cosine",
            final_rate=1e-5,
            patience=15,
            class_weights="inverse",
        )
    )
    augment: Augmented = Augment(
        rotation_deg=180.0, smallest_scale=0.9, largest_scale=1.1, brightness=0.1, contrast=0.1, saturation=0.1
    )
    mirrored: Annotated[bool, "answer the mean over the photo and its mirror image"] = False


PRESETS: dict[str, dict[str, Any]] = {
    "wang2024": {},
    "quick": recipe.merged(recipe.FINE_TUNING, {"image_epochs": 0, "augment": {"smallest_scale": 1.0}}),
}


Colours = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of red, green and blue, 0 to 1."""


class WithMask(nn.Module):
    """Eq. 1 by another backbone, whose first convolution has a filter for the mask.

    Args:
        name: of the backbone.
        side_px: side of the photos.

    Attributes:
        width: of f.
        colours: mean and standard deviation of red, green and blue, 0 to 1, that the backbone was trained with.

    Raises:
        ConfigError: no such network, or one that does not begin with a convolution of red, green and blue.
    """

    def __init__(self, name: str, side_px: int) -> None:
        super().__init__()
        self.maps = Backbone(name, side_px)
        self.width = self.maps.widths[-1]
        self.colours: Colours = self.maps.mean.flatten().tolist(), self.maps.sd.flatten().tolist()
        for buffer, value in (("mean", 0.0), ("sd", 1.0)):  # x of eq. 1 is standardised already, and its mask is not
            self.maps.register_buffer(buffer, torch.tensor(value), persistent=False)
        self.place, first = _first_convolution(self.maps.net, name)
        self._replace(_with_mask(first, first.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, width) f of (n, 4, S, S) x."""
        f: torch.Tensor = self.maps(x)[-1].mean((2, 3))
        return f

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over public weights of the backbone; others raise :class:`InputError`."""
        plain = Backbone(self.maps.name, self.maps.side_px)
        said = plain.start(state, source)
        weights = plain.net.state_dict()
        name = f"{self.place}.weight"
        self.maps.net.load_state_dict({**weights, name: _widened(weights[name])})
        return said

    def _replace(self, convolution: nn.Conv2d) -> None:
        parent, _, name = self.place.rpartition(".")
        setattr(self.maps.net.get_submodule(parent), name, convolution)


def _resnet() -> Any:
    """The paper's backbone: torchvision's ResNet-50 with a filter for the mask, without its classes."""
    from torchvision.models import resnet50

    net: Any = resnet50()
    net.conv1 = nn.Conv2d(4, 64, kernel_size=7, stride=2, padding=3, bias=False)
    net.fc = nn.Identity()
    return net


def _first_convolution(net: nn.Module, name: str) -> tuple[str, nn.Conv2d]:
    """The convolution that reads red, green and blue, and its name."""
    for place, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == 3 and module.groups == 1:
                return place, module
            break
    raise ConfigError(
        f"backbone {name!r}, which has no filter that a mask could join",
        "a network that begins with a convolution of red, green and blue",
        f"name {_RESNET}, or timm/tf_efficientnet_lite0",
    )


def _with_mask(first: nn.Conv2d, weight: torch.Tensor) -> nn.Conv2d:
    """The same convolution of four channels, kind and padding kept."""
    convolution = deepcopy(first)
    convolution.in_channels = 4
    convolution.weight = nn.Parameter(_widened(weight.detach()))
    return convolution


def _widened(weight: torch.Tensor) -> torch.Tensor:
    """(width, 4, h, w) of (width, 3, h, w): the mask's filter is the mean of the colour filters."""
    return torch.cat([weight, weight.mean(1, keepdim=True)], 1)


class Hybrid(Network, nn.Module):
    """Eqs. 1 to 3.

    Attributes:
        sizes: what it was built for.
        backbone: eq. 1.
        branch: eq. 2; None where there is neither attribute nor radiomic feature.
        output: eq. 3.
        reference_embedding: (width,) running mean of f over training, what an explanation puts in the place of a photo.
        last: the block whose maps a heatmap shows.
    """

    TASK = "classify"
    READS = ("image", "mask", "attributes", "radiomics")
    CONFIG = Config
    PRESETS = PRESETS
    RADIOMICS = "signature"
    MASKS_CLASSES = True

    backbone: Any
    class_weights: torch.Tensor
    mean: torch.Tensor
    sd: torch.Tensor
    reference_embedding: torch.Tensor
    steps_seen: torch.Tensor

    @classmethod
    def default_weights(cls, config: Config) -> str:
        """ImageNet weights of the backbone."""
        return str(config.backbone)

    def __init__(self, config: Config, sizes: Sizes) -> None:
        recipe.check(config)
        if config.image_epochs < 0:
            raise ConfigError(f"image_epochs = {config.image_epochs}", "0 or more", "0 leaves that phase out")
        super().__init__()
        self.config = config
        self.sizes = sizes
        if config.backbone == _RESNET:
            colours: Colours = IMAGENET_MEAN, IMAGENET_SD
            self.backbone, width = _resnet(), _WIDTH
        else:
            other = WithMask(config.backbone, config.side_px)
            self.backbone, width, colours = other, other.width, other.colours
        columns = sum(sizes.columns.get(name, 0) for name in ("attributes", "radiomics"))
        self.branch = nn.Linear(columns, config.branch_width) if columns else None
        self.output = nn.Linear(width + (config.branch_width if columns else 0), len(sizes.answers))
        self.silent = False
        self.register_buffer("class_weights", class_weights(config.recipe.class_weights, sizes), persistent=False)
        register_normalisation(self, *colours)
        self.register_buffer("reference_embedding", torch.zeros(width))
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))

    def effective_class_prior(self) -> torch.Tensor:
        """(K,) shares of the classes for which its probabilities hold."""
        return effective_class_prior(self.sizes, self.class_weights, balanced=self.config.recipe.balanced)

    @property
    def last(self) -> nn.Module:
        """The last block of eq. 1; its answer is F."""
        block: nn.Module = self.backbone.layer4[-1] if self.config.backbone == _RESNET else self.backbone.maps.last
        return block

    def start(self, state: Mapping[str, torch.Tensor], source: str) -> str:
        """Take over public weights of the backbone; the mask's filter becomes the mean of the colour filters.

        Raises:
            InputError: they are another network's; names the first tensor that differs.
        """
        if self.config.backbone != _RESNET:
            return f"{self.backbone.start(state, source)}; {_MASK_FILTER}"
        first = state.get("conv1.weight")
        if first is not None and first.ndim == 4 and first.shape[1] == 3:
            state = {**state, "conv1.weight": _widened(first)}
        load_into(self.backbone, state, f"{source} is no ResNet-50", without=("fc.",))
        return f"ResNet-50 of {source}, its classes left out; {_MASK_FILTER}{corruption_note(self.backbone)}"

    def phases(self) -> tuple[Phase, ...]:
        """First the photo and its mask, then everything."""
        r = self.config.recipe
        head = r.head_learning_rate or r.learning_rate
        rates = {"output.": head, "branch.": head} if head != r.learning_rate else {}
        epochs = {"image": self.config.image_epochs, "all": r.epochs}
        return tuple(recipe.phase(name, self.config, epochs=most, rates=rates) for name, most in epochs.items() if most)

    def enter(self, phase: str) -> None:
        """In the phase ``image`` the branch of eq. 2 is silent and frozen."""
        self.silent = phase == "image"
        if self.branch is not None:
            self.branch.requires_grad_(not self.silent)

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Eq. 4."""
        logits = self(batch)["diagnosis"].float()
        return recipe.cross_entropy(self.config, logits, batch["class"], self.class_weights, batch.get(POSSIBLE))

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 1 to 3 without the softmax.

        Args:
            batch: image (n, 3, S, S), 0 to 1; mask (n, S, S), 0 or 1; attributes (n, a); radiomics (n, r).

        Returns:
            ``diagnosis``: (n, K) logits.
        """
        f = self.backbone(self._pictures(batch))
        if self.training:
            recipe.move_towards(self.reference_embedding, self.steps_seen, f)
        return self.head(f, batch)

    def answer(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """As :meth:`forward`, with f of :meth:`encode`; eq. 3 is linear in f, so that is the mean of the logits."""
        return self.head(self.encode(batch), batch)

    def encode(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, width) f of the photos and masks, with ``mirrored`` the mean over them and their mirror images."""
        x = self._pictures(batch)
        if not self.config.mirrored:
            return self.backbone(x)  # type: ignore[no-any-return]
        f = self.backbone(torch.cat([x, x.flip(3)]))
        return f.view(2, len(x), -1).mean(0)  # type: ignore[no-any-return]

    def head(self, seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eqs. 2 and 3: ``diagnosis`` (n, K) logits of f (n, 2048), attributes and radiomics."""
        if self.branch is None:
            return {"diagnosis": self.output(seen)}
        h = functional.relu(self.branch(self._quantities(batch)))  # eq. 2
        if self.silent:
            h = torch.zeros_like(h)
        return {"diagnosis": self.output(torch.cat([seen, h], 1))}  # eq. 3

    def _pictures(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, 4, S, S) x of eq. 1."""
        colour = (batch["image"] - self.mean) / self.sd
        return torch.cat([colour, batch["mask"][:, None].to(colour.dtype)], 1)

    def _quantities(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, a + r) q of eq. 2; standardised, so that a hidden row of zeros is the mean case."""
        q = torch.cat([batch["attributes"], batch["radiomics"]], 1)
        dropped = self.config.recipe.dropped
        if self.training and dropped:
            q = q * (torch.rand(len(q), 1, device=q.device) >= dropped)
        return q


def batch_norm_agreement(network: Hybrid, batch: Mapping[str, torch.Tensor]) -> float:
    """Mean cosine between f with the BatchNorm statistics of the weights and with those of this batch, -1 to 1.

    Training uses the second. Weights whose BatchNorm was folded into the convolutions fall to about 0.2 here and are
    spoilt by the first steps; sound ones stay above 0.9 with a few dozen photos at the size they were trained for.
    """
    twin = deepcopy(network)  # a pass in training mode moves the statistics
    with torch.no_grad():
        x = twin._pictures(batch)
        settled, training = twin.eval().backbone(x), twin.train().backbone(x)
    return float(functional.cosine_similarity(settled, training).mean())


MODEL = Hybrid
