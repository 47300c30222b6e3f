"""Class weights, log frequencies and costs of networks, and the class prior for which their probabilities hold."""

from __future__ import annotations

import torch

from skinkit.errors import ConfigError, did_you_mean
from skinkit.models.parts.protocol import Sizes

_RARE = ("MEL", "SCC")


def class_weights(how: str, sizes: Sizes) -> torch.Tensor:
    """(K,) weights of the classes: N / (K n) for ``inverse``, their square root, or 1 for ``none``."""
    counts = torch.tensor(sizes.class_counts or (1,) * len(sizes.answers), dtype=torch.float32)
    inverse = counts.sum() / (len(counts) * counts.clamp(min=1))
    return inverse ** {"inverse": 1.0, "square_root": 0.5, "none": 0.0}[how]


def log_frequencies(sizes: Sizes) -> torch.Tensor:
    """(K,) logarithm of each class's share of the training cases, less that of a fair share.

    A class without a case counts as the most frequent one: a loss that sees it as rare would leave its logit as it
    was, and without the adjustment it would then be the answer to every photo.

    Source: A. K. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. 10 (their loss; a constant
    added to all logits changes nothing).
    """
    logs = -class_weights("inverse", sizes).log()
    present = torch.tensor(sizes.class_counts or (1,) * len(sizes.answers)) > 0
    return torch.where(present, logs, logs.max())


def effective_class_prior(sizes: Sizes, weights: torch.Tensor, *, balanced: float = 0.0) -> torch.Tensor:
    """(K,) shares of the classes for which probabilities hold that were learnt with weights.

    Args:
        sizes: with the training cases of each class.
        weights: (K,) by which a case's loss is multiplied for its class.
        balanced: share of the draws in which every class comes equally often.
    """
    counts = torch.tensor(sizes.class_counts or (1,) * len(sizes.answers), dtype=torch.float32)
    present = counts > 0
    shares = (1 - balanced) * counts / counts.sum() + balanced * present / present.sum()
    weighted = shares * weights.cpu()
    return weighted / weighted.sum()


def rare_class_weights(weight: float, sizes: Sizes) -> torch.Tensor:
    """(K,) ``weight`` for melanoma and squamous cell carcinoma, 1 for the others."""
    return torch.tensor([weight if code in _RARE else 1.0 for code in sizes.answers])


def costs(text: str, sizes: Sizes) -> torch.Tensor:
    """(K,) further weights of the classes, 1 for those the text does not name.

    Args:
        text: for example ``MEL=2,SCC=1.5``; class codes.
        sizes: with the classes.

    Raises:
        ConfigError: not of that form, a class that is not there, or a weight that is not positive.
    """
    weights = dict.fromkeys(sizes.answers, 1.0)
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in weights:
            raise ConfigError(
                f"costs of a class {name!r}",
                did_you_mean(name, sizes.answers),
                "name class codes, as in costs=MEL=2,SCC=2",
            )
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = 0.0
        if not 0 < weights[name] < float("inf"):
            raise ConfigError(f"costs = {text!r}", "a positive number for each class", "for example costs=MEL=2,SCC=2")
    return torch.tensor(list(weights.values()))
