"""LightGBM's text format: what LightGBM writes passes unchanged, and nothing passes that its library cannot take."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from skinkit.models.parts.tree_text import checked_trees

RNG = np.random.default_rng(5)
ROWS = 400
X = RNG.normal(size=(ROWS, 5))
X[:, 3], X[:, 4] = RNG.integers(0, 150, ROWS), RNG.integers(0, 3, ROWS)
Y = (X[:, 0] > 0).astype(int) + (X[:, 3] % 3 == 1)
GAPS = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
GAPS[Y > 0, 2] = np.nan

TRAINED: dict[str, dict[str, Any]] = {
    "multiclass": {},
    "one class against the rest": {"objective": "multiclassova"},
    "binary": {"objective": "binary", "num_class": 1},
    "regression": {"objective": "mape", "num_class": 1},
    "no objective of its own": {"objective": lambda p, d: (p - d.get_label(), np.ones(len(p))), "num_class": 1},
    "missing values": {"gaps": True},
    "zero counts as missing": {"zero_as_missing": True},
    "categories in sets": {"categories": [3, 4], "max_cat_to_onehot": 2, "min_data_per_group": 5, "cat_smooth": 1},
    "categories one by one": {"categories": [3, 4], "max_cat_to_onehot": 300},
    "single leaves": {"min_data_in_leaf": ROWS},
    "classes without a case": {"num_class": 6, "min_data_in_leaf": 1},
    "forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "dropped trees": {"boosting": "dart"},
    "monotone": {"objective": "binary", "num_class": 1, "monotone_constraints": [1, 0, 0, 0, -1]},
    "deep": {"num_leaves": 200, "min_data_in_leaf": 1},
}


def trained(name: str, rounds: int = 8) -> lightgbm.Booster:
    settings = {"objective": "multiclass", "num_class": 3, "num_leaves": 7, "verbosity": -1, "num_threads": 1}
    settings |= TRAINED[name]
    x, categories = (GAPS if settings.pop("gaps", False) else X), settings.pop("categories", "auto")
    classes = X[:, 3] % 3 if categories != "auto" else Y
    labels = classes if settings["num_class"] > 1 else (Y > 0).astype(float)
    return lightgbm.train(settings, lightgbm.Dataset(x, labels, categorical_feature=categories), rounds)


@pytest.mark.parametrize("name", TRAINED)
def test_what_lightgbm_writes_passes_and_answers_the_same(name: str) -> None:
    booster = trained(name)
    told = checked_trees(booster.model_to_string().encode())
    read = lightgbm.Booster(model_str=told.text)
    assert (told.columns, told.classes) == (X.shape[1], TRAINED[name].get("num_class", 3))
    for options in ({"raw_score": True}, {"pred_contrib": True}):
        np.testing.assert_array_equal(read.predict(GAPS, **options), booster.predict(GAPS, **options))


def test_the_cases_are_what_they_are_called() -> None:
    """Or the test above shows less than it says."""
    assert re.search(r"^num_cat=[1-9]", trained("categories in sets").model_to_string(), re.MULTILINE)
    assert re.search(r"^threshold=(.* )?inf", trained("missing values").model_to_string(), re.MULTILINE)
    assert set(re.findall(r"num_leaves=(\d+)\n", trained("single leaves").model_to_string())) == {"1"}


def changed(key: str, value: str, *, tree: int = 0, name: str = "multiclass") -> bytes:
    """A model in which one line of a tree says something else; ``{}`` stands for what follows its first value."""
    head, *trees = re.split(r"(?m)^(?=Tree=)", trained(name).model_to_string())
    line = re.search(rf"(?m)^{key}=(.*)$", trees[tree])
    assert line
    value = value.replace("{}", line[1].partition(" ")[2])
    assert value != line[1]
    trees[tree] = trees[tree].replace(line[0], f"{key}={value}", 1)
    return resized(head, trees)


def resized(head: str, trees: list[str]) -> bytes:
    """Header and trees put together, with the sizes that the trees have now."""
    sizes = [len(tree.partition("end of trees")[0]) for tree in trees]
    return (re.sub("(?m)^tree_sizes=.*$", "tree_sizes=" + " ".join(map(str, sizes)), head) + "".join(trees)).encode()


LINES = [
    ("num_leaves", "8", "instead of 7"), ("num_leaves", "0", "num_leaves 0"), ("num_leaves", "9999999999", "not 1 to"),
    ("num_leaves", "-1", "num_leaves"), ("num_leaves", "7 7", "2 values"), ("num_leaves", "1", "values instead of 0"),
    ("split_feature", "5 {}", "split_feature 5"), ("split_feature", "-1 {}", "split_feature -1"),
    ("split_feature", "{}", "5 values instead of 6"), ("split_feature", "", "0 values"),
    ("left_child", "0 {}", "not after it"), ("left_child", "-9 {}", "left_child -9"),
    ("right_child", "6 {}", "right_child 6"), ("right_child", "1000000 {}", "right_child"),
    ("left_child", "-1 -1 -1 -1 -1 -1", "no parent"), ("left_child", "1 0 -1 -2 -3 -4", "not after it"),
    ("left_child", "x {}", "left_child"), ("left_child", "1.5 {}", "left_child"),
    ("threshold", "nan {}", "threshold"), ("threshold", "1e {}", "threshold"), ("threshold", "0x10 {}", "threshold"),
    ("decision_type", "1 {}", "categories"), ("decision_type", "12 {}", "decision_type 12"),
    ("leaf_value", "nan {}", "leaf_value"), ("leaf_value", "inf {}", "leaf_value"),
    ("leaf_value", "1e999 {}", "not finite"), ("leaf_value", "1.7e308 {}", "sum to no finite"),
    ("leaf_count", "0 {}", "leaf_count 0"), ("internal_count", "-1 {}", "internal_count -1"),
    ("is_linear", "1", "is_linear 1"), ("shrinkage", "nan", "shrinkage"), ("num_cat", "1", "other lines"),
    ("Tree", "1", "Tree 1"), ("split_gain", "1,2 {}", "split_gain"), ("internal_value", "{}", "internal_value"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "found"), LINES)
def test_a_tree_that_is_none_is_refused(key: str, value: str, found: str) -> None:
    content = changed(key, value)
    if found == "sum to no finite":  # two trees of one class
        again = re.split(r"(?m)^(?=Tree=)", content.decode())
        again[4] = re.sub(r"(?m)^leaf_value=\S+", "leaf_value=1.7e308", again[4])
        content = resized(again[0], again[1:])
    with pytest.raises(ValueError, match=re.escape(found)):
        checked_trees(content)


CATEGORIES = [
    ("threshold", "7 {}", "categories 7"), ("threshold", "0.5 {}", "categories 0.5"),
    ("cat_boundaries", "1 {}", "rise from 0"), ("cat_boundaries", "0 2000000000 {}", "cat_boundaries"),
    ("cat_threshold", "{}", "cat_threshold of"), ("cat_threshold", "4294967296 {}", "cat_threshold 4294967296"),
    ("num_cat", "9", "cat_boundaries of"), ("num_cat", "0", "other lines"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "found"), CATEGORIES)
def test_categories_that_are_none_are_refused(key: str, value: str, found: str) -> None:
    """The first split of the tree is one by categories."""
    trees = re.split(r"(?m)^(?=Tree=)", trained("categories in sets").model_to_string())
    assert re.search("(?m)^decision_type=[13579]", trees[1])
    with pytest.raises(ValueError, match=re.escape(found)):
        checked_trees(changed(key, value, name="categories in sets"))


HEADER = [
    ("version=v4", "version=v9"), ("num_class=3", "num_class=4"), ("num_class=3", "num_class=1000000000"),
    ("num_tree_per_iteration=3", "num_tree_per_iteration=1"), ("max_feature_idx=4", "max_feature_idx=40"),
    ("max_feature_idx=4", "max_feature_idx=-5"), ("label_index=0", "label_index=-7"),
    ("objective=multiclass num_class:3", "objective=multiclass num_class:300"),
    ("objective=multiclass num_class:3", "objective=multiclass"),
    ("objective=multiclass num_class:3", "objective=evil num_class:3"),
    ("objective=multiclass num_class:3", "objective=multiclassova num_class:3 sigmoid:0"),
    ("objective=multiclass num_class:3", "objective=%s%n"), ("tree_sizes=", "tree_sizes=9"),
    ("tree_sizes=", "tree_sizes=-1 "), ("tree\n", "tree\ntree_sizes=1\n"), ("feature_names=", "feature_names=a "),
    ("end of trees", "end of tree"), ("\nTree=0", "\n\nTree=0"), ("\n\nTree=0", "\n\0\nTree=0"),
    ("feature_infos=", "average_output=0\nfeature_infos="), ("num_leaves=", "num_leaves"),
    ("\nfeature_infos=", "\nfeature_infos"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), HEADER)
def test_a_header_that_lies_is_refused(old: str, new: str) -> None:
    text = trained("multiclass").model_to_string()
    assert old in text
    with pytest.raises(ValueError, match=r"."):
        checked_trees(text.replace(old, new, 1).encode())


def test_a_line_without_its_sign_is_refused() -> None:
    """The library stops reading there, and ends the process because it misses the lines after it."""
    content = trained("single leaves").model_to_string().encode()
    head, *trees = re.split(r"(?m)^(?=Tree=)", content.decode())
    assert checked_trees(resized(head, trees)) == checked_trees(content)
    trees[1] = trees[1].replace("right_child=\n", "right_child\n")
    with pytest.raises(ValueError, match="tree 1: other lines"):
        checked_trees(resized(head, trees))


def test_every_cut_is_refused() -> None:
    content = trained("multiclass").model_to_string().encode()
    whole = content.index(b"end of trees\n") + len(b"end of trees\n")
    for length in [*range(0, whole, whole // 97), whole - 1]:
        with pytest.raises(ValueError, match=r"."):
            checked_trees(content[:length])
    assert checked_trees(content[:whole]) == checked_trees(content)


def test_a_chain_that_would_exhaust_the_stack_is_refused() -> None:
    for leaves, fine in ((1000, True), (1100, False), (100_000, False)):
        nodes = range(leaves - 1)
        chain = {
            "Tree": 0, "num_leaves": leaves, "num_cat": 0,
            **dict.fromkeys(("split_feature", "split_gain", "threshold"), " ".join("0" for _ in nodes)),
            "decision_type": " ".join("2" for _ in nodes),
            "left_child": " ".join([*map(str, nodes[1:]), "-1"]),
            "right_child": " ".join(str(-2 - node) for node in nodes),
            **dict.fromkeys(("leaf_value", "leaf_weight", "leaf_count"), " ".join("1" for _ in range(leaves))),
            **dict.fromkeys(("internal_value", "internal_weight", "internal_count"), " ".join("1" for _ in nodes)),
            "is_linear": 0, "shrinkage": 1,
        }  # fmt: skip
        tree = "".join(f"{key}={value}\n" for key, value in chain.items()) + "\n\n"
        head = re.split("(?m)^Tree=", trained("binary").model_to_string())[0]
        content = resized(head, [tree + "end of trees\n"])
        if fine:
            booster = lightgbm.Booster(model_str=checked_trees(content).text)
            assert np.isfinite(booster.predict(X[:3], pred_contrib=True)).all()
        else:
            with pytest.raises(ValueError, match="levels"):
                checked_trees(content)


FUZZ = """
import json, random, re, sys
import lightgbm, numpy as np
from skinkit.models.parts.tree_text import checked_trees

begin, end, texts, log = int(sys.argv[1]), int(sys.argv[2]), json.load(open(sys.argv[3])), sys.argv[4]
x = np.random.default_rng(0).normal(size=(40, 5)) * 50
x[::3, 2] = np.nan
counted = {"refused": 0, "same": 0, "finite": 0}
for seed in range(begin, end):
    chance = random.Random(seed)
    text = chance.choice(texts)
    data = bytearray(text.encode())
    stop = data.index(b"end of trees") + 13
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if not data:
            break
        kind, at = chance.randrange(6), chance.randrange(stop)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at] = chance.choice(b"0123456789-. =\\n")
        elif kind == 2:
            del data[at : at + chance.choice((1, 2, 50, 4000))]
        elif kind == 3:
            data[at:at] = data[at : at + chance.choice((1, 2, 50, 600))]
        else:  # another number in the place of one, with sizes that fit
            numbers = list(re.finditer(rb"(?<=[= ])-?[0-9][^ \\n]*", bytes(data[:stop])))
            if numbers:
                one = chance.choice(numbers)
                new = chance.choice((b"-1", b"0", b"1", b"2", b"99999", b"-99999", b"1e308", b"nan", b"2147483647"))
                data[one.start() : one.end()] = new
        stop = max(1, min(stop, len(data)))
    if chance.random() < 0.7:
        head, *trees = re.split(rb"(?m)^(?=Tree=)", bytes(data))
        sizes = " ".join(str(len(tree.partition(b"end of trees")[0])) for tree in trees).encode()
        data = re.sub(rb"(?m)^tree_sizes=.*$", b"tree_sizes=" + sizes, head) + b"".join(trees)
    open(log, "w").write(str(seed))
    try:
        told = checked_trees(bytes(data))
    except ValueError:
        counted["refused"] += 1
        continue
    try:
        booster = lightgbm.Booster(model_str=told.text)
    except lightgbm.basic.LightGBMError:
        counted["refused"] += 1
        continue
    assert told.columns == booster.num_feature()
    if told.columns != x.shape[1]:
        counted["refused"] += 1  # by whoever knows the columns
        continue
    answers = booster.predict(x, raw_score=True), booster.predict(x, pred_contrib=True)
    assert answers[0].size == len(x) * told.classes
    assert all(np.isfinite(answer).all() for answer in answers), seed
    old = lightgbm.Booster(model_str=text)
    same = all(np.array_equal(a, old.predict(x, **o)) for a, o in zip(answers, ({"raw_score": 1}, {"pred_contrib": 1})))
    counted["same" if same else "finite"] += 1
print(json.dumps(counted))
"""


def fuzzed(folder: Path, begin: int, end: int) -> dict[str, int]:
    """Mutants of models, each refused or predicted with, in a process that may die."""
    names = ("multiclass", "categories in sets", "single leaves", "missing values")
    (folder / "texts.json").write_text(json.dumps([trained(name, 3).model_to_string() for name in names]))
    arguments = [str(begin), str(end), str(folder / "texts.json"), str(folder / "seed")]
    answer = subprocess.run([sys.executable, "-c", FUZZ, *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"seed {(folder / 'seed').read_text()}: {answer.returncode} {answer.stderr}"
    counted: dict[str, int] = json.loads(answer.stdout.splitlines()[-1])  # after what the library prints
    return counted


def test_no_mutant_ends_the_process_or_answers_what_is_not_finite(tmp_path: Path) -> None:
    counted = fuzzed(tmp_path, 0, 500)
    assert counted["refused"] > 100
    assert counted["finite"] > 20  # or anything at all is refused


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_mutant_of_many_does(tmp_path: Path) -> None:
    print(f"\nmutants of trees: {fuzzed(tmp_path, 1000, 51_000)}")
