"""A network as an ONNX file: exported, compared with torch, used by onnxruntime alone and by ``predict --onnx``."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import browser_page
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import small_cohort
import written_artifacts as written
from conftest import run_here, run_skinkit, without_torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import skinkit
from skinkit.api import open_workspace, predict_photo
from skinkit.artifacts.artifact import open_artifact
from skinkit.console import Console
from skinkit.learning.onnx_export import columns_of
from skinkit.learning.onnx_file import encoded_attributes
from skinkit.schemas import PAD_ATTRIBUTES
from skinkit.stats.encoders import ENCODERS, POLICIES, Encoder, encode_raw
from skinkit.workspace import Ref, Workspace, load_workspace

TOYS = ("one_photo",)
TASK = "bleed"
CARD = '[model]\nlicence = "CC BY 4.0"\n[training_data]\nsources = ["drawn photos"]\n'
EXPORT: tuple[Any, ...] = ("models", "export", "toy", "--to", "onnx", "--cases", 12)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two folds and two tasks, with isotonic calibration, and its exported files."""
    workspace = small_cohort.make(tmp_path_factory.mktemp("chain") / "w", folds=2, patients=36)
    shared: dict[str, Any] = {"name": "toy", "model": "one_photo", "weights": "none", "attributes": "isic"}
    written.make(workspace, "train", **shared, tasks=(TASK,), calibration="isotonic", missing="median")
    written.make(workspace, "predict", name="toy", cohorts=["jinan"])
    (workspace.root / "card.toml").write_text(CARD, encoding="utf-8")
    ran = run_here(*EXPORT, "--int8", "--json", "--card", "card.toml", cwd=workspace.root)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    (workspace.root / "export.json").write_text(ran.stdout, encoding="utf-8")
    return workspace.root


@pytest.fixture
def file(chain: Path, tmp_path: Path) -> Path:
    """A copy of the float file, for a test to spoil."""
    return Path(shutil.copy(chain / "toy.onnx", tmp_path / "toy.onnx"))


def images_of(root: Path) -> pd.DataFrame:
    """What the torch model predicts for the cohort it was not trained on."""
    table = open_artifact(load_workspace(root).path(Ref("predictions", "jinan", "toy"))).table()
    return table[table["level"] == "image"].set_index("case_id").sort_index()


def contract_of(path: Path) -> dict[str, Any]:
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    contract: dict[str, Any] = json.loads(properties["skinkit.contract"])
    return contract


# ------------------------------------------------------------------------------------------------------ the export
def test_the_export_says_how_far_both_files_answer_from_torch(chain: Path) -> None:
    said = json.loads((chain / "export.json").read_text("utf-8"))
    torch_row, float_row, int8_row = said["parity"]["rows"]
    assert [row["network"] for row in said["parity"]["rows"]] == ["torch", "onnx", "int8"]
    assert said["parity"]["photos"] == 12
    assert float_row["max_difference"] < 1e-4
    assert set(float_row["same_class"]) == {"diagnosis", TASK}
    assert float_row["same_class"]["diagnosis"] == 1.0
    assert float_row["max_difference"] < int8_row["max_difference"] < 0.5
    assert torch_row["latency_ratio"] == 1.0
    assert said["latency"] == {"batch": 1, "passes": 100, "warm_up": 10, "threads": said["latency"]["threads"]}
    assert [Path(name).name for name in said["files"]] == ["toy.onnx", "toy.int8.onnx"]
    assert (chain / "toy.int8.onnx").stat().st_size == int8_row["bytes"] != float_row["bytes"]


def test_the_file_holds_contract_card_and_notice_and_no_path_of_this_machine(chain: Path) -> None:
    for name in ("toy.onnx", "toy.int8.onnx"):
        model = onnx.load(chain / name)
        onnx.checker.check_model(model, full_check=True)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        assert properties["skinkit.notice"] == "Research software: no diagnosis."
        assert properties["skinkit.licence"] == "CC BY 4.0"
        card = json.loads(properties["skinkit.model_card"])
        assert [cohort["cohort"] for cohort in card["training_data"]["cohorts"]] == ["clinic"]
        assert card["training_data"]["sources"] == ["drawn photos"]
        assert json.loads(properties["skinkit.parity"])["photos"] == 12
        content = (chain / name).read_bytes()
        for path in (Path(skinkit.__file__).parent.parent, chain, Path(onnx.__file__).parent.parent):
            assert str(path).encode() not in content


def test_onnxruntime_alone_answers_as_the_contract_says_what_torch_answers(chain: Path) -> None:
    """Written as another program's author would, from the contract alone."""
    contract, predicted = contract_of(chain / "toy.onnx"), images_of(chain)
    session = onnxruntime.InferenceSession(chain / "toy.onnx", providers=["CPUExecutionProvider"])
    cases = open_artifact(load_workspace(chain).path(Ref("cases", "jinan"))).table().set_index("case_id")
    side = contract["image"]["side_px"]
    for case, row in predicted.iterrows():
        photo = Image.open(chain / "jinan" / f"{case}.png").convert("RGB")
        pixels = np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0))
        numbers = []
        for column in contract["attributes"]["columns"]:
            value = cases.loc[case].get(column["attribute"])
            unknown = value is None or pd.isna(value)
            if "divide_by" in column:
                numbers.append(np.nan if unknown else float(value) / column["divide_by"])
            elif "codes" in column:
                numbers.append(column["codes"].get(str(value), np.nan))
            else:
                others = [c for c in contract["attributes"]["columns"] if c["attribute"] == column["attribute"]]
                known = not unknown and any(str(value) in other.get("one_if", ()) for other in others)
                one = str(value) in column.get("one_if", ()) if known else column.get("one_if_unknown", False)
                numbers.append(float(one))
        feeds = {
            "image": (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32),
            "attributes": np.array([numbers], np.float32),
        }
        said = dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))
        for task in ("diagnosis", TASK):
            codes = contract["tasks"][task]["classes"]["classes"]
            expected = [row[f"p__{task}__{code}"] for code in codes]
            np.testing.assert_allclose(said[contract["tasks"][task]["output"]][0], expected, atol=1e-4)
        assert said["malignancy"][0] == pytest.approx(row["malignancy"], abs=1e-4)
        assert said["malignancy_raw"][0] == pytest.approx(row["malignancy_raw"], abs=1e-4)
        assert said["fold_sd"][0] == pytest.approx(row["fold_sd"], abs=1e-4)
        assert said["uncertainty_variance"][0] == pytest.approx(row["uncertainty_variance"], abs=1e-4)
        if abs(row["malignancy"] - contract["threshold"]) > 1e-3:
            assert bool(said["called_malignant"][0]) == (row["call"] == "malignant")
            assert bool(said["veto"][0]) == bool(row["veto"])
    assert contract["threshold"] == predicted["threshold"].iloc[0]


def test_columns_are_made_as_the_encoder_makes_them() -> None:
    rng = np.random.default_rng(3)
    words = {"age_years": [63.0, 4.0], "sex": ["female", "male"], "site": ["torso", "head/neck"], "region": ["NOSE"]}
    for encoder in ENCODERS.values():
        words |= {a.name: [*a.values, *a.codes, *a.spelled] for a in encoder if a.values or a.codes}
    words |= {"diameter_1_mm": [3.0], "diameter_2_mm": [2.5], "sex": ["female", "male"], "fitzpatrick": ["3.0", "1.0"]}
    names = sorted({a.name for encoder in ENCODERS.values() for a in encoder} | {c.name for c in PAD_ATTRIBUTES})
    cases = []
    for _ in range(40):
        drawn = {name: words[name][rng.integers(len(words[name]))] for name in names if name in words}
        cases.append({name: None if rng.random() < 0.3 else value for name, value in drawn.items()})
    cases += [{}, {"sex": "unheard-of", "itch": "unheard-of", "site": "unheard-of"}]
    frame = pd.DataFrame(cases, dtype=object)
    for name in ENCODERS:
        for policy in POLICIES:
            columns = columns_of(Encoder.fit(name, frame, policy))
            raw = encode_raw(name, frame, policy)
            own = (
                np.concatenate([encoded_attributes(columns, case) for case in cases])
                if columns
                else np.zeros(raw.shape)
            )
            np.testing.assert_array_equal(own, raw.astype(np.float32), err_msg=f"{name}, {policy}")


def test_what_reads_more_than_a_photo_and_attributes_is_refused(chain: Path, tmp_path: Path) -> None:
    shutil.copytree(chain, tmp_path / "w")
    workspace = load_workspace(tmp_path / "w")
    settings = ("backbone=shufflenet_v2_x0_5", "side_px=32", "width=16", "token_width=16", "recipe.epochs=1")
    written.make(workspace, "train", name="outlined", model="dual_network", weights="none", settings=settings)
    written.make(workspace, "train", name="tables", model="logistic", radiomics="none")
    written.make(workspace, "train", name="joined", model="late_fusion", members=("tables", "toy"))
    for name, found in (
        ("outlined", "outlined (dual_network) also reads mask"),
        ("tables", "tables (logistic) is no network"),
        ("joined", "joined reads the answers of tables, toy"),
        ("nobody", "no model 'nobody'"),
    ):
        ran = run_here("models", "export", name, "--to", "onnx", "--json", cwd=workspace.root)
        assert ran.returncode == 4, ran.stdout
        assert found in json.loads(ran.stdout)["error"]["found"]
        assert not (workspace.root / f"{name}.onnx").exists()


def test_files_are_replaced_only_where_they_are_exports_and_that_is_asked_for(
    chain: Path, file: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(b"the work of a year")
    for output, options, code in ((theirs, (), 2), (theirs, ("--replace",), 2), (file, (), 5)):
        before = output.read_bytes()
        ran = run_here(*EXPORT, "--output", output, *options, "--json", cwd=chain)
        assert ran.returncode == code
        assert str(output) in json.loads(ran.stdout)["error"]["found"]
        assert output.read_bytes() == before
    ran = run_here(*EXPORT, "--output", file, "--replace", "--json", cwd=chain)
    assert ran.returncode == 0, ran.stderr
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("models", "export", "toy"), "export without --to"),
        (("models", "export"), "'skinkit models export' alone"),
        (("models", "pack", "toy", "--int8"), "--to or --int8"),
        (("predict", "--onnx", "toy.onnx", "--model", "toy"), "--onnx and --model"),
        (("predict", "--onnx", "toy.onnx", "--mask", "m.png", "--image", "p.png"), "--onnx and --mask"),
        (("predict", "--onnx", "toy.onnx", "--attribute", "sex=male"), "--attribute without --image"),
        (("predict", "--csv", "table.csv"), "--csv without --onnx"),
        (("predict", "--onnx", "toy.onnx", "--undecided", "3"), "--undecided 3"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], found: str, chain: Path) -> None:
    ran = run_here(*arguments, "--json", cwd=chain)
    assert ran.returncode == 2
    assert found in json.loads(ran.stdout)["error"]["found"]


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    ran = run_here(*EXPORT, "--output", tmp_path / "file" / "toy.onnx", "--json", cwd=chain)
    assert ran.returncode == 2
    assert f"no folder {tmp_path / 'file'}" in json.loads(ran.stdout)["error"]["found"]
    assert "exporting" not in ran.stderr


def test_settings_of_a_workspace_cannot_name_a_file(chain: Path, tmp_path: Path) -> None:
    shutil.copytree(chain, tmp_path / "w")
    with (tmp_path / "w" / "skinkit.toml").open("a", encoding="utf-8") as stream:
        stream.write('\n[stage.predict]\nonnx = "toy.onnx"\n')
    ran = run_here("predict", "--cohort", "jinan", "--no-upstream", "--json", cwd=tmp_path / "w")
    assert ran.returncode == 2
    assert "onnx in the settings of predict" in json.loads(ran.stdout)["error"]["found"]


# ------------------------------------------------------------------------------------------------- predict --onnx
def test_a_cohort_is_predicted_without_torch_as_by_the_model(chain: Path, tmp_path: Path) -> None:
    environment = without_torch(tmp_path / "no-torch")
    table = tmp_path / "jinan.csv"
    options = ("--no-upstream", "--csv", table, "--json")
    ran = run_skinkit("predict", "--onnx", "toy.onnx", *options, cwd=chain, **environment)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    said, predicted = json.loads(ran.stdout), images_of(chain)
    assert said["status"] == {"in_training_data": 72, "ok": 8}
    with table.open(encoding="utf-8", newline="") as stream:
        rows = {row["case_id"]: row for row in csv.DictReader(stream) if row["cohort"] == "jinan"}
    assert sorted(rows) == predicted.index.tolist()
    numbers = [name for name in predicted if name.startswith("p__") or name in ("malignancy", "entropy", "fold_sd")]
    for case, row in predicted.iterrows():
        own = rows[str(case)]
        for name in numbers:
            assert float(own[name]) == pytest.approx(row[name], abs=1e-4), name
        assert own["model_identity"] == row["model_identity"]
        assert (own["missing_attributes"] or None) == row["missing_attributes"]
        assert {own["top1"], row["top1"]} <= {row["top1"], row["top2"]}
    scored = run_here("score", table, "--no-shortcuts", "--bootstrap", 10, "--json")
    assert scored.returncode == 0, scored.stdout


def test_a_cohort_that_it_has_learnt_from_is_refused(chain: Path) -> None:
    ran = run_here("predict", "--onnx", "toy.onnx", "--cohort", "clinic", "--no-upstream", "--json", cwd=chain)
    assert ran.returncode == 5
    assert "has learnt from all 72 photos of clinic" in json.loads(ran.stdout)["error"]["found"]


def test_a_photo_is_predicted_without_torch_or_workspace_as_by_the_model(chain: Path, tmp_path: Path) -> None:
    environment, photo = without_torch(tmp_path / "no-torch"), chain / "jinan" / "jinan-01-1.png"
    given = ("--image", photo, "--attribute", "age_years=71", "--attribute", "sex=female", "--attribute", "smoke=no")
    ran = run_skinkit("predict", "--onnx", chain / "toy.onnx", *given, "--json", cwd=tmp_path, **environment)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    own = json.loads(ran.stdout)["prediction"]
    opened = open_workspace(chain, console=Console(quiet=True))
    torch = predict_photo("toy", photo, {"age_years": 71, "sex": "female", "smoke": "no"}, workspace=opened).as_dict()
    for name in ("probabilities", "malignancy", "malignancy_raw", "uncertainty"):
        assert own[name] == pytest.approx(torch[name], abs=1e-4), name
    for name in ("model", "model_identity", "threshold", "missing_attributes", "not_read", "flags"):
        assert own[name] == json.loads(json.dumps(torch[name])), name
    assert own["unlike_training"] is None
    of_training = run_here(
        "predict", "--onnx", chain / "toy.onnx", "--image", chain / "clinic/clinic-00-1.png", "--json"
    )
    assert "in_training_data" in json.loads(of_training.stdout)["prediction"]["flags"]


def test_a_photo_that_is_gone_fails_alone(chain: Path, tmp_path: Path) -> None:
    shutil.copytree(chain, tmp_path / "w")
    (tmp_path / "w" / "jinan" / "jinan-02-1.png").unlink()
    arguments = ("predict", "--onnx", "toy.onnx", "--cohort", "jinan", "--no-upstream", "--json")
    ran = run_here(*arguments, cwd=tmp_path / "w")
    assert ran.returncode == 3
    (failed,) = (row for row in json.loads(ran.stdout)["cases"] if row["status"] == "failed")
    assert (failed["case_id"], failed["reason"]) == ("jinan-02-1", "image_missing")


# ------------------------------------------------------------------------------------------------------- hostile
def graph_of(*nodes: Any, inputs: Any = (), outputs: Any = (), tensors: Any = ()) -> Any:
    return helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(tensors))


def changed(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """A file whose protobuf message was changed."""

    def spoil(file: Path) -> None:
        model = onnx.load(file)
        change(model)
        file.write_bytes(model.SerializeToString())

    return spoil


def contract(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A file whose contract was changed."""

    def of_model(model: Any) -> None:
        for entry in model.metadata_props:
            if entry.key == "skinkit.contract":
                values = json.loads(entry.value)
                change(values)
                entry.value = json.dumps(values)

    return changed(of_model)


def outside_data(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def endless(model: Any) -> None:
    body = graph_of(
        helper.make_node("Identity", ["c"], ["d"]),
        inputs=[
            helper.make_tensor_value_info(n, k, []) for n, k in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))
        ],
        outputs=[helper.make_tensor_value_info("d", TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    model.graph.node.append(helper.make_node("Loop", ["", "always"], [], body=body))


def huge(model: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "shape"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["vast"]))


def unfixed(model: Any) -> None:
    model.graph.node.append(helper.make_node("NonZero", ["image"], ["places"]))


def poisoned(model: Any) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 4:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))


def renamed(model: Any) -> None:
    model.graph.output[0].name = "q__diagnosis"
    for node in model.graph.node:
        node.output[:] = ["q__diagnosis" if name == "p__diagnosis" else name for name in node.output]
        node.input[:] = ["q__diagnosis" if name == "p__diagnosis" else name for name in node.input]


def bare(model: Any) -> None:
    del model.metadata_props[:]


def nested(model: Any) -> None:
    for entry in model.metadata_props:
        if entry.key == "skinkit.contract":
            entry.value = "[" * 100_000


SPOILT: dict[str, tuple[Callable[[Path], Any], int]] = {
    "absent": (lambda file: file.unlink(), 4),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), 4),
    "empty": (lambda file: file.write_bytes(b""), 4),
    "no ONNX": (lambda file: file.write_bytes(b"PK\3\4 this is something else" * 99), 4),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-700]), 4),
    "cut in the middle": (lambda file: file.write_bytes(file.read_bytes()[:3000]), 4),
    "without contract": (changed(bare), 4),
    "contract of nothing but brackets": (changed(nested), 4),
    "contract of a newer version": (contract(lambda c: c.update(version=99)), 4),
    "contract without tasks": (contract(lambda c: c.pop("tasks")), 4),
    "contract of a huge side": (contract(lambda c: c["image"].update(side_px=10**9)), 4),
    "contract of endless folds": (contract(lambda c: c["model"].update(folds=float("inf"))), 4),
    "contract with another side": (contract(lambda c: c["image"].update(side_px=16)), 4),
    "contract with a threshold that is none": (contract(lambda c: c.update(threshold=float("nan"))), 4),
    "contract with another threshold": (contract(lambda c: c.update(threshold=0.0)), 4),
    "contract with fewer classes": (contract(lambda c: c["tasks"]["diagnosis"]["classes"]["classes"].pop()), 4),
    "contract that escapes the terminal": (contract(lambda c: c["model"].update(name="\x1b[2J")), 4),
    "contract with other malignant classes": (
        contract(lambda c: c["tasks"]["diagnosis"]["classes"].update(malignant=["NEV"])),
        4,
    ),
    "outputs of other names": (changed(renamed), 4),
    "weights that are no numbers": (changed(poisoned), 4),
    "weights in another file": (changed(outside_data), 5),
    "a loop": (changed(endless), 5),
    "a tensor of a terabyte": (changed(huge), 5),
    "a tensor of any size": (changed(unfixed), 5),
    "an operator of somebody's": (
        changed(lambda m: m.graph.node.append(helper.make_node("Shell", ["image"], ["x"], domain="evil"))),
        5,
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_damaged_and_hostile_files_are_refused_in_a_sentence(how: str, chain: Path, file: Path) -> None:
    spoil, code = SPOILT[how]
    spoil(file)
    photo = chain / "jinan" / "jinan-00-1.png"
    ran = run_here("predict", "--onnx", file, "--image", photo, "--attribute", "age_years=20", "--json")
    assert ran.returncode == code, ran.stdout
    error = json.loads(ran.stdout)["error"]
    assert str(file) in error["found"]
    assert "Traceback" not in ran.stderr
    assert "\x1b" not in ran.stderr


def test_without_onnxruntime_the_extra_is_named(chain: Path, tmp_path: Path) -> None:
    environment = without_torch(tmp_path / "no-onnx")
    hook = tmp_path / "no-onnx" / "sitecustomize.py"
    hook.write_text(hook.read_text("utf-8").replace('("torch",', '("onnxruntime", "torch",'), encoding="utf-8")
    photo = chain / "jinan" / "jinan-00-1.png"
    ran = run_skinkit("predict", "--onnx", chain / "toy.onnx", "--image", photo, "--json", **environment)
    assert ran.returncode == 2, ran.stdout
    error = json.loads(ran.stdout)["error"]
    assert error["found"] == "onnxruntime is not installed"
    assert "skinkit[onnx]" in error["fix"]


# -------------------------------------------------------------------------------------------------------- a browser
@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy.onnx", "toy.int8.onnx"])
def test_a_browser_answers_as_python_does(
    name: str, chain: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chromium = browser_page.browser()
    dist = browser_page.package(tmp_path_factory.getbasetemp() / "npm")
    session = onnxruntime.InferenceSession(chain / name, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    inputs = {one.name: rng.random(one.shape, dtype=np.float32) for one in session.get_inputs()}
    inputs["attributes"][0, 0] = np.nan  # an unknown number
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(names, inputs), strict=True))
    answered = browser_page.answers(chain / name, inputs, dist, chromium, tmp_path / "profile")
    assert set(answered) == set(names)
    for output, values in expected.items():
        np.testing.assert_allclose(answered[output], np.ravel(values).astype(float), atol=1e-4, err_msg=output)


# -------------------------------------------------------------------------------------------------- architectures
@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "given"),
    [
        (("backbone=timm/tf_efficientnet_lite0", "turned=true", "mirrored=true"), {}),
        (("backbone=timm/mobilenetv3_small_100",), {"attributes": "none"}),
        (("backbone=timm/mobilenetv3_large_100",), {"attributes": "none"}),
        (("backbone=timm/vit_tiny_patch16_224",), {"missing": "indicator", "calibration": "isotonic"}),
    ],
)
def test_architectures_answer_as_in_torch(
    settings: tuple[str, ...], given: dict[str, Any], chain: Path, tmp_path: Path
) -> None:
    shutil.copytree(chain, tmp_path / "w")
    workspace: Workspace = load_workspace(tmp_path / "w")
    how = ("side_px=32", "recipe.epochs=1", "recipe.batch=8", "recipe.optimiser=adamw", *settings)
    written.make(workspace, "train", name="net", model="concat", weights="none", settings=how, **given)
    ran = run_here("models", "export", "net", "--to", "onnx", "--int8", "--json", cwd=workspace.root)
    assert ran.returncode == 0, ran.stdout
    _, as_float, as_int8 = json.loads(ran.stdout)["parity"]["rows"]
    assert as_float["max_difference"] < 1e-4
    assert as_int8["bytes"] < 0.5 * as_float["bytes"]
