"""The documentation site, which opens from its folder without a server: `make site`, into .site/html.

The pages are those of the repository, laid out as they lie there, so that their links hold; the navigation is the
README's table of documentation. Added are a page for each command, with every option as the code has it, and what the
commands of the tour print: they are run on drawn lesions while the site is built, and one that fails ends the build.
No network is needed. A link that leads nowhere, or a page that the README does not name, ends the build too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer
import yaml

from skinkit.cli import app_of
from skinkit.commands import PANELS
from skinkit.console import Console

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / ".site"
STAGED = SITE / "pages"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "docs", "examples")
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
EXECUTED = re.compile(r"<!-- executed -->\n```sh\n(.*?)```\n", re.DOTALL)
LINES = 26
"""So many lines of what a command prints are shown."""


def lay_out() -> None:
    """Copy the pages, and every file of the repository that one of them links to."""
    for name in PAGES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, STAGED / name)
    (STAGED / "assets").mkdir()
    shutil.copyfile(ROOT / "tools" / "iframe-worker.js", STAGED / "assets" / "iframe-worker.js")
    for page in sorted(STAGED.rglob("*.md")):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            there = (page.parent / target).resolve()
            source = ROOT / there.relative_to(STAGED) if there.is_relative_to(STAGED) else there
            if "://" not in target and not there.exists() and source.is_file() and source.is_relative_to(ROOT):
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, there)


def navigation() -> list[dict[str, object]]:
    """The rows of the README's table of documentation, and the pages around it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, table = text.partition("\n## Documentation\n")
    _, _, table = table.partition("\n|---|---|\n")
    rows = re.findall(r"(?m)^\| ([a-z][^|]*) \| (.*) \|$", table.partition("\n## ")[0])
    groups: list[dict[str, object]] = [{"skinkit": "README.md"}]
    for task, links in rows:
        pages = re.findall(r"\[([^]]+)\]\(([^)#]+)\)", links)
        groups.append({task.capitalize(): [{title.capitalize(): target} for title, target in pages]})
    commands = [f"commands/{name}.md" for table in PANELS.values() for name in table]
    groups.append({"Commands": ["commands/index.md", *commands]})
    return [*groups, {"Changes": "CHANGELOG.md"}, {"Contributing": "CONTRIBUTING.md"}, {"Security": "SECURITY.md"}]


def cell(text: str) -> str:
    """Text of a help in a cell of a table; what stands in backticks stays code."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if at % 2 else re.sub(r"([<>*_|\\])", r"\\\1", part) for at, part in enumerate(parts))


def command_page(name: str) -> str:
    """What a command is for, and a table of its options under each heading of its help."""
    command = typer.main.get_command(app_of([name], Console())[0])
    context = typer.Context(command, info_name=f"skinkit {name}")
    line, *paragraphs = (command.help or "").split("\n\n")
    described = [f"```text\n{one[2:]}\n```" if one.startswith("\b\n") else cell(one) for one in paragraphs]
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            heading = getattr(parameter, "rich_help_panel", None) or "Common"
            groups.setdefault("Arguments" if parameter.param_type_name == "argument" else heading, []).append(record)
    parts = [f"# skinkit {name}", cell(line), *described]
    for heading, records in groups.items():
        rows = [f"| `{flags}` | {cell(text)} |" for flags, text in records]
        parts.append("\n".join([f"## {heading}", "", "| | |", "|---|---|", *rows]))
    return "\n\n".join([*parts, cell(command.epilog or "")]) + "\n"


def write_commands() -> None:
    """A page for each command, and one that lists them."""
    folder = STAGED / "commands"
    folder.mkdir()
    parts = ["# Commands"]
    for panel, table in PANELS.items():
        rows = [f"| [{name}]({name}.md) | {cell(line)} |" for name, line in table.items()]
        parts.append("\n".join([f"## {panel}", "", "| | |", "|---|---|", *rows]))
        for name in table:
            (folder / f"{name}.md").write_text(command_page(name), encoding="utf-8")
    (folder / "index.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def execute(page: Path, workspace: Path) -> int:
    """Add to each marked block of a page what its commands print; their number."""
    number = 0

    def with_output(block: re.Match[str]) -> str:
        nonlocal number
        number += 1
        print(f"+ {block[1].splitlines()[0]} ...", flush=True)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block[1]], cwd=workspace, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{page.name}: {block[1]}{done.stdout}found: it ended with {done.returncode}\nexpected: 0")
        lines = done.stdout.replace(str(workspace), "skinkit-demo").splitlines()
        more = [f"... {len(lines) - LINES} more lines"] if len(lines) > LINES else []
        return f"```sh\n{block[1]}```\n\n```text\n" + "\n".join(lines[:LINES] + more) + "\n```\n"

    page.write_text(EXECUTED.sub(with_output, page.read_text(encoding="utf-8")), encoding="utf-8")
    return number


def fetched_from_elsewhere(folder: Path) -> Iterator[str]:
    """Addresses that a browser would ask for scripts, styles or pictures while it shows a page."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        yield from re.findall(r'<(?:script|img|iframe|source)[^>]* src="?((?:https?:)?//[^">\s]+)', text)
        for link in re.findall(r"<link[^>]*>", text):
            if not re.search(r"rel=.?(canonical|next|prev|edit)", link):
                yield from re.findall(r'href="?((?:https?:)?//[^">\s]+)', link)


def main() -> None:
    """Lay out, write, execute, build."""
    shutil.rmtree(SITE, ignore_errors=True)
    STAGED.mkdir(parents=True)
    lay_out()
    write_commands()
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.update(PATH=own, COLUMNS="100", NO_COLOR="1", NO_MKDOCS_2_WARNING="1")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "skinkit-demo"
        subprocess.run(["skinkit", "demo", "--tables", "--quiet", str(workspace)], check=True)
        number = sum(execute(page, workspace) for page in sorted(STAGED.glob("docs/*.md")))
    config = {"INHERIT": "../mkdocs.yml", "docs_dir": "pages", "site_dir": "html", "nav": navigation()}
    (SITE / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", str(SITE / "mkdocs.yml")]
    if subprocess.run(mkdocs, check=False).returncode:
        raise SystemExit("found: warnings\nexpected: none\nfix: mend the links above, or name the page in README.md")
    elsewhere = sorted(set(fetched_from_elsewhere(SITE / "html")))
    if elsewhere:
        raise SystemExit(
            f"found: pages that fetch {elsewhere[0]}\nexpected: nothing from another machine\nfix: mkdocs.yml"
        )
    pages = sum(1 for _ in (SITE / "html").rglob("*.html"))
    print(f"{pages} pages, {number} blocks of commands executed: {SITE / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
