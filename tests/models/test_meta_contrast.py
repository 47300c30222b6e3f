"""Meta-domain contrast: its loss against a plain loop, its views, its gradient reversal, and a training of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import torch
import written_artifacts as written
from configured import configured

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError
from skinkit.learning.augment import augment
from skinkit.models.meta_contrast import MetaContrast, _Reversed
from skinkit.models.parts.objectives import contrastive_loss, domain_contrastive_loss
from skinkit.models.parts.protocol import META_DOMAIN, META_DOMAINS, Augment, Sizes
from skinkit.workspace import Ref, Workspace

SMALL: dict[str, Any] = {"backbone": "timm/test_resnet", "side_px": 64}


def by_hand(z: np.ndarray, cases: list[int], classes: list[int], domains: list[int], t: float) -> float:
    """Eqs. 2 to 4, one pair after the other."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(len(z)):

        def same_class(a: int, i: int = i) -> bool:
            return classes[a] == classes[i] >= 0

        others = [a for a in range(len(z)) if a != i]
        view = [a for a in others if cases[a] == cases[i]]
        positive = view + [a for a in others if a not in view and same_class(a) and domains[a] != domains[i]]
        left = [a for a in others if a in view or not (same_class(a) and domains[a] == domains[i])]
        below = sum(np.exp(z[i] @ z[a] / t) for a in left)
        losses.append(-np.mean([np.log(np.exp(z[i] @ z[p] / t) / below) for p in positive]))
    return float(np.mean(losses))


def test_the_loss_is_that_of_the_equations() -> None:
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    cases = [0, 1, 2, 3] * 2
    classes, domains = [0, 0, 1, -1] * 2, [2, 5, 2, 2, 3, 2, 7, 2]
    arrays = [torch.tensor(values) for values in (cases, classes, domains)]
    loss = float(domain_contrastive_loss(z, *arrays, 0.2))
    assert loss == pytest.approx(by_hand(z.numpy().astype(float), cases, classes, domains, 0.2), rel=1e-5)


def test_without_labels_it_is_nt_xent_and_with_each_view_of_its_own_domain_supcon() -> None:
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    cases, classes = torch.arange(4).repeat(2), torch.tensor([0, 0, 1, 1]).repeat(2)
    unknown, apart = torch.full((8,), -1), torch.arange(8)
    plain = domain_contrastive_loss(z, cases, unknown, apart, 0.1)
    torch.testing.assert_close(plain, contrastive_loss(z, cases, 0.1))
    torch.testing.assert_close(
        domain_contrastive_loss(z, cases, classes, apart, 0.1), contrastive_loss(z, classes, 0.1)
    )


def test_likeness_within_a_meta_domain_is_neither_wanted_nor_unwanted() -> None:
    """Moving two photos of a class apart changes nothing where all of their views share one meta-domain."""
    z = torch.eye(6)[:4].repeat(2, 1).requires_grad_()
    cases, classes = torch.arange(4).repeat(2), torch.tensor([0, 0, 1, 2]).repeat(2)
    (gradient,) = torch.autograd.grad(domain_contrastive_loss(z, cases, classes, torch.zeros(8).long(), 0.5), z)
    assert gradient[0, 1].abs() < 1e-7  # of case 0 towards case 1, of its class
    assert gradient[0, 2].abs() > 1e-4  # and away from another class


def test_both_views_of_a_photo_are_of_different_meta_domains() -> None:
    image = torch.rand(6, 3, 48, 48, generator=torch.Generator().manual_seed(2)).repeat(2, 1, 1, 1)
    cohort = torch.tensor([0, 0, 0, 1, 1, 1]).repeat(2)
    how = Augment(flips=False, meta_domains="all", meta_share=1.0)
    out = augment({"image": image, "cohort": cohort}, how, torch.Generator().manual_seed(3), copies=2)
    first, second = out[META_DOMAIN].chunk(2)
    assert bool((first != second).all())
    assert int(out[META_DOMAIN].max()) < len(META_DOMAINS)
    untouched = augment({"image": image, "cohort": cohort}, Augment(flips=False, meta_domains="hair", meta_share=1e-9),
                        torch.Generator().manual_seed(3), copies=2)  # fmt: skip
    assert untouched[META_DOMAIN].tolist() == (len(META_DOMAINS) + cohort).tolist()


def test_the_adversary_teaches_the_backbone_the_opposite() -> None:
    values = torch.ones(3, requires_grad=True)
    (2 * _Reversed.apply(values)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [-2.0] * 3
    torch.manual_seed(0)
    network = MetaContrast.build(
        configured(MetaContrast, **SMALL, adversary=0.1), Sizes((), cohorts=("a", "b"))
    ).train()
    batch = {
        "image": torch.rand(4, 3, 64, 64),
        "class": torch.tensor([0, 1, 0, 1]),
        META_DOMAIN: torch.tensor([0, 3, 5, 11]),
    }
    network.objective().loss(network, batch).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.adversary.parameters())
    with pytest.raises(ConfigError):
        MetaContrast.build(configured(MetaContrast, **SMALL, adversary=-1.0), Sizes(()))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = small_cohort.make(tmp_path_factory.mktemp("w"), folds=1, patients=24)
    written.run_stage(made, "split", name="all", over="all")
    return made


def test_a_classifier_starts_from_it(workspace: Workspace, tmp_path: Path) -> None:
    small = ("backbone=timm/test_resnet", "side_px=64", "recipe.epochs=1", "recipe.batch=8")
    written.run_stage(workspace, "train", name="contrast", model="meta_contrast", weights="none", settings=small)
    about = open_artifact(workspace.path(Ref("models", name="contrast"))).json("model.json")
    assert about["classes"]["name"] == "pad6"
    written.run_stage(workspace, "train", name="tuned", model="concat", weights="model:contrast", settings=small)
    tuned = open_artifact(workspace.path(Ref("models", name="tuned"))).json("model.json")
    assert tuned["weights"]["name"] == "model:contrast"
    wrong = (*small, "augment.meta_domains=snow")
    with pytest.raises(ConfigError) as error:
        written.run_stage(workspace, "train", name="wrong", model="meta_contrast", weights="none", settings=wrong)
    assert "snow" in error.value.found
