"""How a cohort's truth masks are read, as its table in ``skinkit.toml`` or an option says."""

from __future__ import annotations

from typing import Any

from skinkit.errors import ConfigError
from skinkit.images.mask_reading import POLARITIES, Reading
from skinkit.workspace import SETTINGS_FILE, Cohort


def reading_of(cohort: Cohort) -> Reading:
    """How the truth masks of a cohort are read: its options ``label`` and ``mask_polarity``.

    Raises:
        ConfigError: a value that neither can have, or both of them.
    """
    label, polarity = cohort.options.get("label"), cohort.options.get("mask_polarity", "")
    return checked_reading(label, polarity, f" in [cohorts.{cohort.name}] of {SETTINGS_FILE}")


def checked_reading(label: Any, polarity: Any, where: str = "") -> Reading:
    """A label and a polarity as given by a person.

    Args:
        label: a whole number from 0, or None.
        polarity: light, dark or empty.
        where: where they are written, for the message.

    Raises:
        ConfigError: a value that neither can have, or both of them.
    """
    if label is not None and (not isinstance(label, int) or isinstance(label, bool) or label < 0):
        raise ConfigError(f"label = {label!r}{where}", "a whole number from 0", "give the value that is the lesion")
    if polarity not in ("", *POLARITIES):
        raise ConfigError(f"mask polarity {polarity!r}{where}", " or ".join(POLARITIES), "use one of these")
    if label is not None and polarity:
        raise ConfigError(
            f"a label and a mask polarity{where}", "one of them", "the label says all; leave out the other"
        )
    return Reading(label, polarity)
