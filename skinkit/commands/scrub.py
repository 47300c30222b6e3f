"""scrub: list and remove personal identifiers.

Nothing is removed without --remove. It removes tables that 'skinkit export' wrote into the workspace, logs (*.log and
folders named 'logs'), and unfinished or replaced work of killed runs; in a private workspace it revokes other users'
permission to read. Artifacts are kept, with the reason. The cohorts' own folders are never changed.

Exit code 0, or 6 if a file to remove is being written or closed to this user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts import leftovers
from skinkit.commands import Context
from skinkit.console import as_lines
from skinkit.errors import BusyError, InputError
from skinkit.workspace import Workspace

if TYPE_CHECKING:
    from skinkit.audit.identifiers import Trace

PANEL = "Hand over", 2

_SHOWN = 40


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    remove: Annotated[bool, "remove what artifacts do not need"] = False


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """List personal identifiers, and with ``--remove`` remove what artifacts do not need."""
    from skinkit.audit.identifiers import REMOVED, STAYS, traces

    workspace = context.workspace()
    listed_traces = list(traces(workspace))
    can_go = [trace for trace in listed_traces if trace.kind in (*REMOVED, "open")]
    gone, busy = _removed(workspace, can_go) if config.remove else ([], [])
    left = [trace for trace in listed_traces if trace not in gone]
    counts = Counter(trace.kind for trace in left)
    lines = [f"  {trace.file}: {trace.what.replace('_', ' ')}, {trace.n}" for trace in left[:_SHOWN]]
    lines += [f"  ... and {len(left) - _SHOWN} more: --json lists all"] if len(left) > _SHOWN else []
    lines += ["", *(f"{kind.replace('_', ' ')} in {n} places: {STAYS[kind]}" for kind, n in sorted(counts.items()))]
    lines += [f"removed or closed: {len(gone)}"] if config.remove else []
    lines += [f"being written or closed to this user, so not removed: {', '.join(busy)}"] if busy else []
    if can_go and not config.remove:
        lines.append(f"{len(can_go)} of these can go: skinkit scrub --remove")
    return {
        "exit_code": BusyError.exit_code if busy else 0,
        "found": [trace.as_dict() for trace in left],
        "counts": dict(sorted(counts.items())),
        "why": {kind: STAYS[kind] for kind in sorted(counts)},
        "can_go": [trace.file for trace in can_go if trace not in gone],
        "removed": sorted({trace.file for trace in gone}),
        "busy": busy,
        "text": as_lines(lines) if left or gone else "nothing here identifies a person",
    }


def _removed(workspace: Workspace, can_go: Sequence[Trace]) -> tuple[list[Trace], list[str]]:
    """Remove files, abandoned work and other users' permissions.

    Returns:
        What was removed, and what could not be, because it is being written or closed to this user.
    """
    from skinkit.privacy import permissions

    gone, busy = [], []
    for trace in can_go:
        path = workspace.root / trace.file
        try:
            if trace.kind == "open":
                permissions.close(path)
            elif trace.kind == "leftovers":
                leftovers.remove(path)
            else:
                path.unlink()
        except (BusyError, InputError, PermissionError):
            busy.append(trace.file)
        except FileNotFoundError:
            continue  # already removed with the work it belonged to
        else:
            gone.append(trace)
    return gone, busy
