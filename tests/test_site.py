"""The documentation site: every command and option, every page, commands executed, nothing fetched from elsewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from skinkit.commands import COMMANDS
from skinkit.commands._command_line import flags_of
from skinkit.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_of_pages", ROOT / "tools" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted({*STAGES, *COMMANDS}))
def test_a_command_s_page_has_every_option(site: ModuleType, name: str) -> None:
    text = site.command_page(name)
    shown = set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z0-9-]*", " ".join(re.findall(r"\| `([^`]+)` \|", text))))
    assert {flag for flag in flags_of(name) if not flag.startswith("--no-")} <= shown
    assert "Exit codes" in text


def test_the_navigation_has_every_page_once(site: ModuleType) -> None:
    def pages(of: object) -> list[str]:
        if isinstance(of, str):
            return [of]
        values = of.values() if isinstance(of, dict) else of
        assert not isinstance(values, str)
        return [page for value in values for page in pages(value)]  # type: ignore[attr-defined]

    named = pages(site.navigation())
    assert len(named) == len(set(named))
    missing = {str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md")} - set(named)
    assert missing == set()
    assert {f"commands/{name}.md" for name in (*STAGES, *COMMANDS)} <= set(named)


def test_what_is_executed_is_shown_and_a_failure_ends_it(site: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n\n<!-- executed -->\n```sh\necho from $PWD\n```\n\nb\n")
    assert site.execute(page, tmp_path) == 1
    assert "```text\nfrom skinkit-demo\n```" in page.read_text()
    page.write_text("<!-- executed -->\n```sh\nfalse\n```\n")
    with pytest.raises(SystemExit, match="it ended with 1"):
        site.execute(page, tmp_path)


def test_what_a_page_fetches_from_elsewhere_is_found(site: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<link rel=canonical href="https://a/b"><a href="https://c">c</a><script src="d.js"></script>')
    assert list(site.fetched_from_elsewhere(tmp_path)) == []
    page.write_text('<script async src="https://e/f.js"></script><link rel="stylesheet" href="//g/h.css">')
    assert sorted(site.fetched_from_elsewhere(tmp_path)) == ["//g/h.css", "https://e/f.js"]


def test_code_in_a_help_stays_as_it_is(site: ModuleType) -> None:
    assert site.cell("a_b `c_d` <e>|f") == r"a\_b `c_d` \<e\>\|f"
