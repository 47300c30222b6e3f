"""When each row of an artifact was first stored: beside the table, outside its identity.

A row that is kept when an artifact is remade keeps its date; one that is new, or whose content or outcome changed, gets
that of the run that puts it in place. (A row that a killed run had computed counts from the run that finished: before
that nobody could read it.) Times never run backwards from one making to the next, whatever the clock does, so that who
asks for everything *since* a moment misses nothing.

``row_dates.json`` holds the runs and, in the order of the table, how many rows in a row belong to which of them.
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
    """What first put a row in place.

    Attributes:
        at: ISO 8601 with microseconds and offset from UTC; empty where it is not known.
        run: id of the run; empty where it is not known.
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
    """The dating of rows that are put in place now, later than every earlier one."""
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
        before: key -> content and dating in the artifact that is replaced.
        new: dating of what is new.
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
