"""LightGBM's text format, checked before LightGBM reads it.

The native library trusts a model file: a child that is no node, a feature that is no column or a wrong size of a tree
makes it read outside its memory, and a node that is its own ancestor never ends. What passes here is a file whose every
line has the form LightGBM writes and whose trees are trees; the library is given no byte that was not read here.

    header          version to tree_sizes, one key a line, in this order, and an empty line
    Tree=0          of every tree as many bytes as tree_sizes says
    end of trees    what follows (importances, settings of the training) is read neither here nor by the library

Leaves are numbered from 0 and stand among the children as -1 - number. A child that is a node has a higher number than
its parent, because LightGBM numbers nodes as it splits. Trees with linear leaves are refused: no model here has them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise

_HEADER = (
    "version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective", "average_output",
    "feature_names", "monotone_constraints", "feature_infos", "tree_sizes",
)  # fmt: skip
_ALONE = "average_output"
_OPTIONAL = ("objective", "average_output", "monotone_constraints")
_OF_SPLITS = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
_OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_OF_NODES = ("internal_value", "internal_weight", "internal_count")
_OF_CATEGORIES = ("cat_boundaries", "cat_threshold")
_END = "end of trees\n"
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?"
_NUMBERS = re.compile(f"(?:{_NUMBER}(?: {_NUMBER})*)?")
_BOUNDS = re.compile(f"(?:(?:{_NUMBER}|inf)(?: (?:{_NUMBER}|inf))*)?")
"""Thresholds; infinity parts missing values from all others."""
_DESCRIPTIVE = re.compile(rf"(?:(?:{_NUMBER}|-?inf|-?nan)(?: (?:{_NUMBER}|-?inf|-?nan))*)?")
"""Of figures that describe the training and decide nothing."""
_INTEGERS = re.compile(r"(?:-?[0-9]{1,10}(?: -?[0-9]{1,10})*)?")
_OBJECTIVE = re.compile(
    "(?:regression|regression_l1|huber|fair|poisson|quantile|mape|gamma|tweedie|binary|multiclass|multiclassova|"
    "cross_entropy|cross_entropy_lambda|lambdarank|rank_xendcg)"
    f"(?: sqrt| [a-z_]+:(?!0(?:\\.0*)?(?: |$))(?!-){_NUMBER})*"
)
"""Of the library's own; of others it prints to stdout."""
_LARGEST = 2**31 - 1
_WORD = 2**32 - 1
_MOST_CLASSES = 10_000
_MOST_COLUMNS = 1_000_000
_MOST_LEAVES = 131_072
"""LightGBM's own limit."""
_DEEPEST = 1024
"""Levels of a tree: the library descends by recursion, and Shapley values take memory for the square of them."""
_CATEGORICAL = 1
_MOST_DECISION = 11
"""Bits: 1 by category, 2 missing values go left, and which count as missing (0 none, 4 zero, 8 NaN)."""


@dataclass(frozen=True)
class CheckedTrees:
    """A model that LightGBM may read.

    Attributes:
        text: header and trees.
        columns: that the trees read.
        classes: scores of a row.
    """

    text: str
    columns: int
    classes: int


def checked_trees(content: bytes) -> CheckedTrees:
    """What LightGBM may read of a file.

    Raises:
        ValueError: names the tree and what is wrong with it.
    """
    head, gap, rest = content.partition(b"\n\n")
    named = _header(head.decode("utf-8"))
    (classes,) = _whole(named, "num_class", 1, 1, _MOST_CLASSES)
    _whole(named, "num_tree_per_iteration", 1, classes, classes)
    _whole(named, "label_index", 1, 0, _LARGEST)
    columns = _whole(named, "max_feature_idx", 1, 0, _MOST_COLUMNS - 1)[0] + 1
    for key in ("feature_names", "feature_infos"):
        if len(named[key].split(" ")) != columns:
            raise ValueError(f"{key} of {len(named[key].split(' '))} columns instead of {columns}")
    if "monotone_constraints" in named:
        _whole(named, "monotone_constraints", columns, -1, 1)
    if "objective" in named:
        _check_objective(named["objective"], classes)
    n_trees = len(named["tree_sizes"].split(" "))
    sizes = _whole(named, "tree_sizes", n_trees, 1, len(rest))
    if n_trees % classes:
        raise ValueError(f"{n_trees} trees for {classes} classes")
    most, at = [0.0] * classes, 0
    for number, size in enumerate(sizes):
        try:
            most[number % classes] += _largest_leaf(rest[at : at + size].decode("ascii"), number, columns)
        except ValueError as error:
            raise ValueError(f"tree {number}: {error}") from None
        at += size
    if not gap or not rest[at:].startswith(_END.encode()):
        raise ValueError(f"no line {_END.strip()!r} after {n_trees} trees")
    if not all(map(math.isfinite, most)):
        raise ValueError("leaf values that sum to no finite number")
    return CheckedTrees(f"{head.decode()}\n\n{rest[:at].decode()}{_END}", columns, classes)


def _header(text: str) -> dict[str, str]:
    """Key -> value of the lines before the trees."""
    first, *lines = text.split("\n")
    named = dict(line.partition("=")[::2] for line in lines)
    expected = [key for key in _HEADER if key in named or key not in _OPTIONAL]
    if first != "tree" or not _are(lines, expected) or not all(map(str.isprintable, lines)):
        raise ValueError("a header that LightGBM does not write")
    if named["version"] != "v4":
        raise ValueError(f"version {named['version'][:40]!r} of LightGBM's format instead of v4")
    return named


def _are(lines: list[str], keys: list[str]) -> bool:
    """Whether lines are ``key=value`` of these keys, in order; one key stands alone."""
    return [line.partition("=")[:2] for line in lines] == [(key, "" if key == _ALONE else "=") for key in keys]


def _check_objective(objective: str, classes: int) -> None:
    """The library takes the number of classes from here too."""
    if not _OBJECTIVE.fullmatch(objective):
        raise ValueError(f"objective {objective[:40]!r}")
    said = re.findall(r"num_class:(\S*)", objective)
    if said != [str(classes)] if classes > 1 else said not in ([], ["1"]):
        raise ValueError(f"objective {objective[:40]!r} of a model with {classes} classes")


def _largest_leaf(text: str, number: int, columns: int) -> float:
    """The largest absolute value of a leaf of a tree, after every line of it was checked."""
    lines = text.split("\n")
    named = dict(line.partition("=")[::2] for line in lines[:-3])
    categories = _OF_CATEGORIES if named.get("num_cat", "0") != "0" else ()
    expected = [
        "Tree", "num_leaves", "num_cat", *_OF_SPLITS, *_OF_LEAVES, *_OF_NODES, *categories, "is_linear", "shrinkage",
    ]  # fmt: skip
    if not _are(lines[:-3], expected) or lines[-3:] != ["", "", ""]:
        raise ValueError("other lines than LightGBM writes")
    _whole(named, "Tree", 1, number, number)
    _whole(named, "is_linear", 1, 0, 0)
    _finite(named, "shrinkage", 1)
    (leaves,) = _whole(named, "num_leaves", 1, 1, _MOST_LEAVES)
    nodes = leaves - 1
    splits = _whole(named, "split_feature", nodes, 0, columns - 1)
    decisions = _whole(named, "decision_type", nodes, 0, _MOST_DECISION)
    thresholds = [float(word) for word in _split(named, "threshold", nodes, _BOUNDS)]
    _check_categories(named, [t for t, d in zip(thresholds, decisions, strict=True) if d & _CATEGORICAL])
    children = [_whole(named, key, nodes, -leaves, nodes - 1) for key in ("left_child", "right_child")]
    _check_children(list(zip(*children, strict=True)), leaves)
    for key, count in (("split_gain", nodes), ("internal_value", nodes), ("internal_weight", nodes)):
        _described(named, key, count)
    _described(named, "leaf_weight", leaves if nodes else len(named["leaf_weight"].split()))
    if nodes:  # else nothing divides by it
        _whole(named, "leaf_count", leaves, 1, _LARGEST)
    else:
        _described(named, "leaf_count", len(named["leaf_count"].split()))
    _whole(named, "internal_count", len(splits), 1, _LARGEST)
    return max(map(abs, _finite(named, "leaf_value", leaves)))


def _check_children(children: list[tuple[int, ...]], leaves: int) -> None:
    """Every node but the first and every leaf has one parent, and a node's parent comes before it."""
    depth = [0] * len(children)
    seen = [0] * (leaves + len(children))  # leaves stand at the end, as negative numbers
    for node, both in enumerate(children):
        for child in both:
            seen[child] += 1
            if child >= 0:
                if child <= node:
                    raise ValueError(f"node {node} has the child {child}, which is not after it")
                depth[child] = depth[node] + 1
    if children and (seen[0] or seen[1:] != [1] * (len(seen) - 1)):
        raise ValueError("a node or leaf that has no parent, or two")
    if max(depth, default=0) >= _DEEPEST:
        raise ValueError(f"{max(depth) + 1} levels instead of at most {_DEEPEST}")


def _check_categories(named: dict[str, str], thresholds: list[float]) -> None:
    """Splits by category name a range of words, whose bits are the categories that go left."""
    (ranges,) = _whole(named, "num_cat", 1, 0, _MOST_LEAVES)
    if ranges:
        bounds = _whole(named, "cat_boundaries", ranges + 1, 0, _LARGEST)
        if bounds[0] or any(end <= begin for begin, end in pairwise(bounds)):
            raise ValueError("cat_boundaries that do not rise from 0")
        _whole(named, "cat_threshold", bounds[-1], 0, _WORD)
    for threshold in thresholds:
        if not (0 <= threshold < ranges and threshold.is_integer()):
            raise ValueError(f"a split by the categories {threshold:g} of {ranges}")


def _split(named: dict[str, str], key: str, count: int, form: re.Pattern[str]) -> list[str]:
    """As many words of a line as there should be, each of the form."""
    line = named[key]
    if not form.fullmatch(line):
        raise ValueError(f"{key} {line[:40]!r}")
    words = line.split()
    if len(words) != count:
        raise ValueError(f"{key} of {len(words)} values instead of {count}")
    return words


def _whole(named: dict[str, str], key: str, count: int, least: int, most: int) -> list[int]:
    """Integers within a range."""
    values = [int(word) for word in _split(named, key, count, _INTEGERS)]
    if values and (min(values) < least or max(values) > most):
        raise ValueError(f"{key} {next(v for v in values if not least <= v <= most)}, not {least} to {most}")
    return values


def _finite(named: dict[str, str], key: str, count: int) -> list[float]:
    values = [float(word) for word in _split(named, key, count, _NUMBERS)]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{key} that is not finite")
    return values


def _described(named: dict[str, str], key: str, count: int) -> None:
    """A line that decides nothing; the library reads it all the same."""
    _split(named, key, count, _DESCRIPTIVE)
