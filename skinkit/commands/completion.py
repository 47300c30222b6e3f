"""completion: print a script that completes commands and options.

    skinkit completion bash > ~/.local/share/bash-completion/completions/skinkit
    skinkit completion zsh > "${fpath[1]}/_skinkit"
    skinkit completion fish > ~/.config/fish/completions/skinkit.fish

The script is static: completion starts no program and needs no network. Create it again after an update of skinkit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from skinkit.commands import PANELS, Context
from skinkit.options import Help

PANEL = "Start", 7
SHARED_OPTIONS = ()

Flags = Mapping[str, tuple[str, tuple[str, ...]]]
"""Option -> its help, and its allowed values if they are limited."""


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    shell: Annotated[Literal["bash", "zsh", "fish"], Help("bash, zsh or fish", positional=True, metavar="SHELL")] = (
        "bash"
    )


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Print the script of a shell."""
    from skinkit.commands._command_line import flags_of, values_of_first_argument

    lines = {name: line for table in PANELS.values() for name, line in table.items()}
    flags: dict[str, Flags] = {name: flags_of(name) for name in lines}
    first = {name: values for name in lines if (values := values_of_first_argument(name))}
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[config.shell](lines, flags, first)
    return {"shell": config.shell, "script": script, "text": script}


def _bash(lines: Mapping[str, str], flags: Mapping[str, Flags], first: Mapping[str, tuple[str, ...]]) -> str:
    words = "\n".join(f"        {name}) words='{' '.join([*first.get(name, ()), *flags[name]])}' ;;" for name in lines)
    values = {
        f"        {name},{flag}) values='{' '.join(allowed)}' ;;"
        for name in lines
        for flag, (_, allowed) in flags[name].items()
        if allowed
    }
    return f"""# bash completion of skinkit, written by 'skinkit completion bash'
_skinkit() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
    local commands='{" ".join(lines)}' words='' values=''
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "$commands help --help --version" -- "$current"))
        return
    fi
    case $command,$before in
{chr(10).join(sorted(values))}
    esac
    case $command in
        help) words=$commands ;;
{words}
    esac
    if [ -n "$values" ]; then
        COMPREPLY=($(compgen -W "$values" -- "$current"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    fi
}}
complete -o default -F _skinkit skinkit"""


def _zsh(lines: Mapping[str, str], flags: Mapping[str, Flags], first: Mapping[str, tuple[str, ...]]) -> str:
    described = "\n".join(f"        {_quoted(f'{name}:{line}')}" for name, line in lines.items())
    cases = []
    for name in lines:
        words = [
            *(f"        {_quoted(value)}" for value in first.get(name, ())),
            *(f"        {_quoted(f'{flag}:{text}')}" for flag, (text, _) in flags[name].items()),
        ]
        cases.append(f"    {name}) offers=(\n{chr(10).join(words)}\n        ) ;;")
    values = [
        f"    {name},{flag}) compadd -- {' '.join(allowed)}; return ;;"
        for name in lines
        for flag, (_, allowed) in flags[name].items()
        if allowed
    ]
    return f"""#compdef skinkit
# zsh completion of skinkit, written by 'skinkit completion zsh'
_skinkit() {{
    local -a commands offers  # words is what zsh has of the line
    commands=(
{described}
        'help:Show the help of a command.'
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    case $words[2] in
    help) _describe command commands; return ;;
    esac
    case $words[2],$words[CURRENT-1] in
{chr(10).join(values)}
    esac
    offers=()
    case $words[2] in
{chr(10).join(cases)}
    esac
    _describe option offers || _files
}}
_skinkit "$@\""""


def _fish(lines: Mapping[str, str], flags: Mapping[str, Flags], first: Mapping[str, tuple[str, ...]]) -> str:
    script = ["# fish completion of skinkit, written by 'skinkit completion fish'"]
    for name, line in {**lines, "help": "Show the help of a command."}.items():
        script.append(f"complete -c skinkit -f -n __fish_use_subcommand -a {name} -d {_quoted(line)}")
    for name in lines:
        prefix = f"complete -c skinkit -n '__fish_seen_subcommand_from {name}'"
        script += [f"{prefix} -f -a '{' '.join(first[name])}'"] if name in first else []
        for flag, (text, allowed) in flags[name].items():
            written = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            values = f" -x -a '{' '.join(allowed)}'" if allowed else ""
            script.append(f"{prefix} {written}{values} -d {_quoted(text)}")
    script.append(f"complete -c skinkit -f -n '__fish_seen_subcommand_from help' -a '{' '.join(lines)}'")
    return "\n".join(script)


def _quoted(text: str) -> str:
    """Text in single quotes, a quote in it closed and opened again."""
    return "'" + text.replace("'", "'\\''") + "'"
