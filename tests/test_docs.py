"""The documentation: its links lead somewhere, and the commands and options that it names exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from skinkit.commands import COMMANDS
from skinkit.commands._command_line import flags_of
from skinkit.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
NAMES = {*STAGES, *COMMANDS}
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")))
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def command_lines(text: str) -> list[tuple[str, str]]:
    """Each command that a page shows, in a block of shell or in line, and what follows its name."""
    blocks = [block.replace("\\\n", " ") for kind, block in FENCE.findall(text) if kind == "sh"]
    lines = [line.split(" # ")[0] for block in blocks for line in block.splitlines()]
    shown = [part for line in lines for part in re.split(r"&&|[;|]", line)]
    inline = [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    found = [re.search(r"\bskinkit ([a-z]+)\b(.*)", part) for part in shown]
    found += [re.match(r"skinkit ([a-z]+)\b(.*)", code) for code in inline]
    found += [re.match(rf"({'|'.join(NAMES)}) (.*)", code) for code in inline]
    return [(match[1], match[2]) for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    broken = []
    for target in targets:
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    shown = command_lines(page.read_text(encoding="utf-8"))
    assert [name for name, _ in shown if name not in {*NAMES, "help"}] == []
    options = [(name, option) for name, rest in shown for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", rest)]
    assert [(name, option) for name, option in options if option not in flags_of(name)] == []
