"""When each row of an artifact was first stored: beside the table, outside its identity.

A row that is kept when an artifact is rebuilt keeps its date. A new row, or one whose content or outcome changed, gets
the date of the run that finished the artifact, even if a killed run computed it. Dates never decrease from one build to
the next, even if the clock does. They order the rows of one artifact and nothing else: a time that another clock
printed, or this one before it was set back, may lie on either side of them. Numbered states decide
what a receiver lacks (``reporting/delivery.py``).

``row_dates.json`` holds the runs and, in the order of the table, the lengths of consecutive rows of one run.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from skinkit import __version__

FILE = "row_dates.json"


@dataclass(frozen=True)
class Dating:
    """The run that first stored a row.

    Attributes:
        at: ISO 8601 with microseconds and offset from UTC; empty if unknown.
        run: id of the run; empty if unknown.
        skinkit: version of the program.
    """

    at: str
    run: str = ""
    skinkit: str = ""

    @property
    def moment(self) -> datetime.datetime:
        """The time; ``datetime.min`` if it is unknown."""
        moment = datetime.datetime.fromisoformat(self.at) if self.at else datetime.datetime.min
        return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def now(run: str, earlier: Iterable[Dating] = ()) -> Dating:
    """The dating of rows stored now, later than every earlier one."""
    clock = datetime.datetime.now().astimezone()
    latest = max((dating.moment for dating in earlier), default=clock)
    if latest >= clock:
        clock = (latest + datetime.timedelta(microseconds=1)).astimezone()
    return Dating(clock.isoformat(timespec="microseconds"), run, __version__)


def carried(
    rows: Iterable[tuple[Hashable, Hashable]], before: Mapping[Hashable, tuple[Hashable, Dating]], new: Dating
) -> Iterator[Dating]:
    """The dating of every row.

    Args:
        rows: key and content of the rows, in the order of the table.
        before: key -> content and dating in the replaced artifact.
        new: dating of new and changed rows.
    """
    for key, content in rows:
        old = before.get(key)
        yield old[1] if old is not None and old[0] == content else new


def to_json(datings: Iterable[Dating]) -> bytes:
    """The file's content."""
    runs: dict[Dating, int] = {}
    stretches = [[runs.setdefault(dating, len(runs)), sum(1 for _ in same)] for dating, same in groupby(datings)]
    return json.dumps({"runs": [asdict(dating) for dating in runs], "rows": stretches}).encode()


def from_json(values: Mapping[str, Any]) -> list[Dating]:
    """The dating of every row, in the order of the table."""
    runs = [Dating(**run) for run in values["runs"]]
    stretches: Sequence[Sequence[int]] = values["rows"]
    return [runs[run] for run, length in stretches for _ in range(length)]
