"""DermaCalibra: its equations by hand, its uncertainty, and what its parts can and cannot depend on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import written_artifacts as written
from configured import configured

torch = pytest.importorskip("torch")

from skinkit.commands import Context, faithful, snapshots  # noqa: E402
from skinkit.console import Console  # noqa: E402
from skinkit.errors import ConfigError, InputError  # noqa: E402
from skinkit.explain.faithfulness import FIGURES  # noqa: E402
from skinkit.learning import trained  # noqa: E402
from skinkit.models import model_config, present_settings  # noqa: E402
from skinkit.models.derma_calibra import Config, DermaCalibra, case_weights, uncertainty  # noqa: E402
from skinkit.models.derma_calibra_released import Released  # noqa: E402
from skinkit.models.parts.losses import focal  # noqa: E402
from skinkit.models.parts.protocol import Sizes  # noqa: E402
from skinkit.models.parts.recipe import QUICK  # noqa: E402
from skinkit.options import flat  # noqa: E402
from skinkit.workspace import Ref  # noqa: E402

PAD6 = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
COLUMNS = 5
LAST = 96
"""Width of the last maps of timm's small ResNet for tests."""
SIZES = Sizes(PAD6, {"attributes": COLUMNS}, (5,) * 6, ("age_years", "smoke", "smoke", "itch", "itch"), (-0.5,) * 5)


def network(sizes: Sizes = SIZES, model: Any = DermaCalibra, *, awake: bool = True, **settings: Any) -> Any:
    """A small one; ``awake`` gives random numbers to what starts at zero."""
    torch.manual_seed(0)
    net = model.build(configured(model, **{"backbone": "timm/test_resnet", "side_px": 64, **settings}), sizes)
    if awake:
        for name, parameter in net.named_parameters():
            if not name.startswith("backbone.") and not parameter.detach().any():
                torch.nn.init.normal_(parameter, std=0.05)
    return net


def batch(n: int = 4, side: int = 64, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {
        "image": torch.rand(n, 3, side, side),
        "attributes": torch.randn(n, COLUMNS),
        "class": torch.arange(n) % 6,
    }


@pytest.fixture(scope="module")
def net() -> Any:
    return network().eval()


def test_the_numbers_of_parameters() -> None:
    wide = Sizes(PAD6, {"attributes": 81}, (5,) * 6)
    large: dict[str, Any] = {"awake": False, "backbone": "resnet50", "side_px": 32}
    with torch.device("meta"):  # nothing is computed
        paper, released = network(wide, **large), network(wide, Released, **large)
    amcr = (paper.metadata, paper.norm, paper.squeeze, paper.excite)
    assert sum(p.numel() for part in amcr for p in part.parameters()) == 302_144
    assert round(sum(p.numel() for p in paper.parameters()) / 1e6, 2) == 25.99
    scale = (released.squeeze_excite, released.gate, released.divisor)
    assert sum(p.numel() for part in scale for p in part.parameters()) == 801_024
    assert round(sum(p.numel() for p in released.parameters()) / 1e6, 1) == 72.1


def test_one_pass_is_equations_1_to_6(net: Any) -> None:
    given = batch()
    with torch.no_grad():
        maps = net.backbone(given["image"])[-1]
        e = torch.relu(net.norm(net.metadata(given["attributes"])))
        z = maps.mean((2, 3))
        a = torch.sigmoid(net.excite(torch.relu(net.squeeze(torch.cat([z, e], 1)))))
        modulated = (a * (1 + net.scale(e)))[..., None, None] * maps + net.shift(e)[..., None, None]
        places = modulated.flatten(2).transpose(1, 2)
        attended = torch.zeros_like(places)
        part, heads = net.attention, net.attention.heads
        q, k = part.query_key(places).chunk(2, 2)
        k = torch.cat([k, part.metadata_key(e)[:, None]], 1)
        v = torch.cat([part.value(places), part.metadata_value(e)[:, None]], 1)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            *(x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        )
        attended = part.out(mixed.transpose(1, 2).flatten(2))
        f = net.output((places + attended).mean(1))
        torch.testing.assert_close(net(given)["diagnosis"], f, rtol=1e-3, atol=1e-4)


def test_it_starts_as_the_plain_network() -> None:
    """W_g, W_b and W_a are zero, so without eq. 3 only pooling and a line are left of eqs. 2 to 6."""
    fresh = network(awake=False, amcr=False).eval()
    given = batch()
    with torch.no_grad():
        plain = fresh.output(fresh.backbone(given["image"])[-1].mean((2, 3)))
        torch.testing.assert_close(fresh.answer(given)["diagnosis"], plain, rtol=1e-4, atol=1e-5)


def test_the_answer_is_the_mean_over_passes_with_dropout(net: Any) -> None:
    given = batch()
    with torch.no_grad():
        told = net.answer(given)
        f = net._passes(net.unpacked(net.encode(given)), given["attributes"])
    assert f.shape == (10, 4, 6)
    p = f.double().softmax(2).numpy()
    assert p.std(axis=0).max() > 1e-3  # the passes do differ
    np.testing.assert_allclose(told["diagnosis"].softmax(1), p.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(told["variance"], p.var(axis=0).mean(axis=1), atol=1e-7)


def test_entropy_is_what_passes_share_and_what_they_disagree_about(net: Any) -> None:
    with torch.no_grad():
        told = net.answer(batch(8))
        p = net._passes(net.unpacked(net.encode(batch(8))), batch(8)["attributes"]).double().softmax(2).numpy()
    of_mean = -(p.mean(axis=0) * np.log(p.mean(axis=0))).sum(axis=1)
    mean_of = -(p * np.log(p)).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(told["entropy"], of_mean, atol=1e-5)
    np.testing.assert_allclose(told["mutual_information"], of_mean - mean_of, atol=1e-5)
    assert (told["mutual_information"] >= 0).all()
    assert (told["entropy"] <= math.log(6)).all()
    agreed = uncertainty(torch.randn(1, 3, 6).repeat(5, 1, 1))
    torch.testing.assert_close(agreed["variance"], torch.zeros(3))
    torch.testing.assert_close(agreed["mutual_information"], torch.zeros(3), atol=1e-6, rtol=0)


def test_uncertain_cases_weigh_more_by_hand() -> None:
    u = torch.tensor([0.0, 0.1, 0.2, 0.9])
    np.testing.assert_allclose(case_weights(u, 1.0), [1, 1 + 0.1 / 0.3, 1 + 0.2 / 0.3, 3], rtol=1e-5)
    assert case_weights(u, 0.0).tolist() == [1, 1, 1, 1]
    assert case_weights(torch.zeros(2), 1.0).tolist() == [1, 1]


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]])
    truth, alpha = torch.tensor([0, 1]), torch.tensor([1.0, 2.0, 1.0])
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    expected = [(1 - p[0, 0]) ** 2 * -np.log(p[0, 0]), 2 * (1 - p[1, 1]) ** 2 * -np.log(p[1, 1])]
    np.testing.assert_allclose(focal(logits, truth, alpha, 2.0), expected, rtol=1e-5)
    plain = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
    torch.testing.assert_close(focal(logits, truth, torch.ones(3), 0.0), plain)


def test_rare_classes_weigh_twice() -> None:
    assert network().alpha.tolist() == [1, 1, 2, 1, 2, 1]
    assert network(rare_weight=1.0).alpha.tolist() == [1] * 6
    assert network(Sizes(("MEL", "NV"), {"attributes": COLUMNS}, (1, 3))).alpha.tolist() == [2, 1]


def test_the_loss_is_equation_9_and_no_gradient_goes_into_the_uncertainty() -> None:
    given, net, twin = batch(6), network().train(), network().train()
    torch.manual_seed(3)
    loss = net.loss(given)
    loss.backward()
    torch.manual_seed(3)
    seen, attributes = twin.unpacked(twin.seen(given)), twin.attributes(given)
    found = focal(twin._pass(seen, attributes), given["class"], twin.alpha, 2.0)
    u = uncertainty(twin._passes(seen, attributes, fresh=True))["variance"].detach()
    assert float(u.min()) > 0
    expected = (case_weights(u, 1.0) * found).mean()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(net.output.weight.grad, twin.output.weight.grad, rtol=1e-4, atol=1e-6)


def test_the_loss_changes_with_the_uncertainty() -> None:
    losses = {}
    for strength in (0.0, 1.0):
        net = network(uncertainty_weight=strength).train()
        torch.manual_seed(3)
        losses[strength] = float(net.loss(batch(6)).detach())
    assert losses[1.0] > 1.2 * losses[0.0]


def test_the_cross_attention_reads_photo_and_metadata(net: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, LAST, requires_grad=True)
    e = torch.randn(1, 2, 256, requires_grad=True)
    scale, shift = torch.ones(1, 2, LAST), torch.zeros(1, 2, LAST)
    net.attention(x, scale, shift, e).square().sum().backward()
    assert float(x.grad.abs().sum()) > 1e-3
    assert float(e.grad.abs().sum()) > 1e-3
    with torch.no_grad():
        weights = net.attention.weights(x, scale, shift, e)
        assert weights.shape == (1, 2, 8, 4, 5)
        torch.testing.assert_close(weights.sum(4), torch.ones(1, 2, 8, 4))
        others = net.attention.weights(x, scale, shift, e + 2)
        assert float((weights - others)[..., -1].abs().max()) > 1e-3  # the metadata's key moves its share


def test_the_released_cross_attention_does_not_read_the_photo() -> None:
    net = network(model=Released).eval()
    e = torch.randn(2, LAST)
    with torch.no_grad():
        one, other = net.crossed(torch.randn(2, LAST), e), net.crossed(torch.randn(2, LAST), e)
        torch.testing.assert_close(one, other)
        assert (one - net.crossed(torch.randn(2, LAST), e + 1)).abs().max() > 1e-3
        assert set(net.answer(batch())) == {"diagnosis"}


def test_one_vector_added_to_every_key_would_change_nothing() -> None:
    """Why the metadata's key is a key of its own."""
    torch.manual_seed(0)
    q, k, k_m = torch.randn(4, 8), torch.randn(5, 8), torch.randn(8)
    torch.testing.assert_close(torch.softmax(q @ k.T, 1), torch.softmax(q @ (k + k_m).T, 1))


def test_parts_can_be_left_out() -> None:
    names = {name.partition(".")[0] for name, _ in network(amcr=False).named_parameters()}
    assert not names & {"squeeze", "excite"}
    assert set(network(amcr=False).eval().answer(batch())) == {"diagnosis"}
    assert "attention" not in dict(network(fusion=False).named_children())
    plain = network(Sizes(PAD6, {"attributes": 0}, (1,) * 6), amcr=False, fusion=False)
    assert {name.partition(".")[0] for name, _ in plain.named_parameters()} == {"backbone", "output"}
    assert network(multi_scale=True).output.in_features == 48 + 192 + LAST


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "other"},
        {"passes": 1},
        {"heads": 7},
        {"side_px": 16},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        network(**wrong)


def test_the_released_code_is_a_model_of_its_own() -> None:
    """Its former setting is refused, and names the model; the setting's only value stays, as identities have it."""
    assert model_config(DermaCalibra, ["variant=paper"]) == Config()
    with pytest.raises(ConfigError) as error:
        model_config(DermaCalibra, ["variant=released"])
    assert error.value.found == "variant = 'released' of derma_calibra"
    assert "derma_calibra_released" in error.value.fix
    with pytest.raises(ConfigError):
        network(model=Released, heads=7)


def test_a_model_trained_as_the_released_variant_is_to_be_trained_again(tmp_path: Path) -> None:
    workspace = written.make_workspace(tmp_path, {"clinic": "development"})
    settings = {**asdict(Config()), "variant": "released"}
    about = {"model": "derma_calibra", "name": "old", "task": "classify", "settings": settings}
    row = {"fold": 0, "n_train": 1, "n_validation": 1, "n_held_out": 1, "temperature": 1.0, "path": "fold_0"}
    files = {"model.json": json.dumps(about).encode()}
    artifact = written.write(workspace, Ref("models", name="old"), [row], files=files)
    with pytest.raises(InputError) as error:
        trained.open_classifier(artifact)
    assert error.value.found == "the model 'old': variant = 'released' of derma_calibra"
    assert "skinkit train --model derma_calibra_released" in error.value.fix


@pytest.mark.parametrize("name", ["apart", "frozen_share", "metadata_c"])
def test_what_moved_to_the_ensemble_names_it(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        model_config(DermaCalibra, [f"{name}=0.5"])
    assert error.value.found == f"{name!r} in --settings"
    assert "--model ensemble" in error.value.fix


def test_a_model_trained_without_the_effect_of_what_moved_is_read_and_another_is_not() -> None:
    settings = {**asdict(Config()), "apart": 0.0, "frozen_share": 0.0, "metadata_c": 0.06, "interactions": 0.15}
    assert present_settings(DermaCalibra, settings) == asdict(Config())
    with pytest.raises(ConfigError) as error:
        present_settings(DermaCalibra, {**settings, "frozen_share": 0.7})
    assert error.value.found == "frozen_share = 0.7 of derma_calibra"
    assert "--model ensemble" in error.value.fix


def test_without_attributes_it_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        network(Sizes(PAD6, {"attributes": 0}, (1,) * 6))
    assert "attributes" in error.value.found


def test_the_quick_preset_learns_by_the_recipe_of_the_comparators() -> None:
    config = model_config(DermaCalibra, {}, preset="quick")
    settings = flat(asdict(config))
    assert {name: settings[name] for name in flat(QUICK)} == flat(QUICK)
    assert config.multi_scale
    assert config.recipe.dropped_block == 0.3  # absence of the patient block must not tell a benign class


def test_the_fusion_may_learn_at_a_rate_of_its_own() -> None:
    (phase,) = network(learning_rate=1e-4, head_learning_rate=1e-3, fusion_learning_rate=2e-4).phases()
    assert phase.learning_rate == 1e-3
    assert phase.rates["backbone."] == 1e-4
    assert {phase.rates[part] for part in ("squeeze.", "excite.", "scale.", "shift.", "attention.")} == {2e-4}


def test_attributes_may_reach_the_classes_directly() -> None:
    """Beside the fusion, which starts as identity: the logits change by the output's last columns times M."""
    net = network(awake=False, metadata_joined=True, amcr=False).eval()
    given = batch()
    with torch.no_grad():
        seen = net.encode(given)
        known, unknown = (
            net.head(seen, {**given, "attributes": told})["diagnosis"]
            for told in (given["attributes"], torch.zeros_like(given["attributes"]))
        )
    straight = given["attributes"] @ net.output.weight[:, -COLUMNS:].T
    torch.testing.assert_close(known - unknown, straight.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "powers"),
    [
        ({}, (1, 1, 1)),
        ({"logit_adjustment": 1.0}, (0, 1, 1)),
        ({"class_weights": "square_root"}, (0.5, 1, 1)),
        ({"class_aware": 1.0}, (0, 1, 1)),
        ({"rare_weight": 2.0, "costs": "ACK=3"}, (1, 2, 3)),
    ],
)
def test_a_network_says_for_which_mix_of_classes_its_probabilities_hold(
    settings: dict[str, Any], powers: tuple[float, float, float]
) -> None:
    """Shares are the numbers of cases to a power, times 2 for MEL and SCC, and 3 for ACK, where these cost more."""
    counts = np.array([40, 30, 10, 20, 5, 8])
    net = network(Sizes(PAD6, {"attributes": COLUMNS}, tuple(counts)), **{"rare_weight": 1.0, **settings})
    power, rare, keratosis = powers
    expected = counts**power * np.array([keratosis, 1, rare, 1, rare, 1])
    np.testing.assert_allclose(net.effective_class_prior().numpy(), expected / expected.sum(), rtol=1e-5)


def test_the_preset_is_the_papers_recipe() -> None:
    config = model_config(DermaCalibra, {}, preset="dermacalibra")
    assert config == Config()
    (phase,) = DermaCalibra.build(config, SIZES).phases()
    assert (phase.optimiser, phase.learning_rate, phase.momentum, phase.weight_decay) == ("sgd", 1e-3, 0.9, 1e-3)
    assert (phase.batch, phase.epochs, phase.schedule, phase.final_rate) == (8, 150, "cosine", 1e-6)
    assert (config.side_px, config.focusing, phase.augment.flips, phase.patience) == (224, 2.0, False, 0)


def test_recalibration_is_equation_3(net: Any) -> None:
    given = batch()
    with torch.no_grad():
        seen = net.encode(given)
        e = torch.relu(net.norm(net.metadata(given["attributes"])))
        a = torch.sigmoid(net.excite(torch.relu(net.squeeze(torch.cat([seen.mean((2, 3)), e], 1)))))
        torch.testing.assert_close(net.factors(seen, given), a)


def test_it_is_trained_told_apart_and_used_through_the_stages(tmp_path: Path) -> None:
    """Uncertainties come into the predictions of photos and of lesions; other models leave them empty."""
    workspace = small_cohort.make(tmp_path / "w", folds=1, patients=12)
    settings = (
        "backbone=timm/test_resnet",
        "side_px=32",
        "recipe.epochs=1",
        "recipe.batch=8",
        "recipe.optimiser=adamw",
    )
    further = ("recipe.logit_adjustment=1.0", "recipe.final_epochs=1")
    given = {"model": "derma_calibra", "weights": "none", "settings": (*settings, *further)}
    (model,), said = written.run_stage(workspace, "train", **given)
    assert "parameters" in said
    (artifact,), _ = written.run_stage(workspace, "predict", name="derma_calibra", cohorts=["jinan"])
    table = artifact.table()
    assert (table["status"] == "ok").all()
    assert (table[["uncertainty_variance", "uncertainty_entropy"]] > 0).all().all()
    assert (table["uncertainty_mutual_information"] < table["uncertainty_entropy"]).all()
    opened = trained.open_classifier(model)
    network = opened.network(opened.folds[0], "cpu")
    assert network.unknown.tolist() == pytest.approx(opened.folds[0].encoder.unknown, abs=1e-6)
    (explained,), _ = written.run_stage(workspace, "explain", cohorts=["jinan"], model="derma_calibra", limit=2)
    rows = explained.table()
    assert set(rows["method"]) == {"gfa"}
    assert (rows["completeness_error"] <= 0.01).all()
    for row in rows.to_dict("records"):
        assert "image" in {entry["attribute"] for entry in json.loads(row["attributions_json"])}
        assert (explained.path / row["composite_file"]).read_bytes()[:4] == b"\x89PNG"
        assert (explained.path / row["heatmap_file"]).is_file()
    (explained,), _ = written.run_stage(
        workspace, "explain", cohorts=["jinan"], model="derma_calibra", limit=1, method="gradcam"
    )
    assert set(explained.table()["method"]) == {"gradcam"}
    context = Context(workspace.root, Console(quiet=True), device="cpu", cohorts=("jinan",), upstream=False)
    answer = faithful.run(faithful.Config(model="derma_calibra", cases=3), context)["faithful"]["jinan"]
    assert {(row["method"], row["figure"]) for row in answer["summary"]} == {
        (method, figure) for method in faithful.METHODS for figure in FIGURES
    }
    assert answer["n"] == 3
    assert all(Path(file).is_file() for file in answer["figures"].values())
    answer = snapshots.run(snapshots.Config(model="derma_calibra"), context)
    assert answer["snapshots"] == 1
    assert set(answer["figures"]) == {"heatmaps", "importance", "factors"}
    assert all(Path(file).is_file() for files in answer["figures"].values() for file in files.values())
    written.run_stage(workspace, "train", model="lightgbm", settings=("rounds=2", "min_leaf=3"))
    (artifact,), _ = written.run_stage(workspace, "predict", name="lightgbm", cohorts=["jinan"])
    assert artifact.table()["uncertainty_variance"].isna().all()
    with pytest.raises(ConfigError) as error:
        written.run_stage(workspace, "explain", cohorts=["jinan"], model="lightgbm", method="gfa")
    assert "lightgbm" in error.value.found
