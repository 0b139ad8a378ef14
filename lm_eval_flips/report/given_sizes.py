"""Sizes of models as people give them: MODEL=BYTES."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lm_eval_flips.errors import FlipsError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)}
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?(e\+?\d+)?)\s*(?P<unit>[kmgt]i?)?b?", re.IGNORECASE)


def parse_sizes(texts: Iterable[str]) -> dict[str, int]:
    """MODEL=BYTES texts, as on the command line, with units such as 3.9GB or 3.6GiB.

    Raises:
        FlipsError: a text is none.

    Example:
        >>> parse_sizes(["org/model-int4=3.9GB", "small=4096"])
        {'org/model-int4': 3900000000, 'small': 4096}
    """
    found = {}
    for text in texts:
        name, _, size = text.rpartition("=")
        match = _SIZE.fullmatch(size.strip())
        if not name or match is None:
            raise FlipsError(f"'{text}' is no size; give MODEL=BYTES, such as my-model=3.9GB")
        unit = _UNITS[(match["unit"] or "").lower()]
        found[name] = round(float(match["number"]) * unit)
    return found
