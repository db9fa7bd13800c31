"""Known faults of the released data, as data: one file a benchmark in `faults/`, of ids, codes and sources.

No row is kept out and no score changed by them: `mmaupro score --audited` prints the score without the faulty
items beside the released one. `tools/find_faults.py` writes what can be counted from the rows; the rest is
what others have reported, with the place.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).parent / "faults"

CODES: Mapping[str, str] = MappingProxyType(
    {
        "ungradeable": "the reference answer is not among the choices",
        "duplicate-gold": "the reference answer is there twice, under two letters",
        "duplicate-choices": "a wrong choice is there twice",
        "disputed": "somebody who listened says that the reference answer is wrong",
        "damaged-audio": "the clip cannot be heard as it was meant",
    }
)
"""Code -> what it means."""


@dataclass(frozen=True)
class Faults:
    """What is known to be wrong with a benchmark's data.

    Attributes
    ----------
    version : str
        Of the list.
    data : str
        The state of the data that it is about.
    codes : mapping of str to tuple of str
        Id -> codes of its faults; see `CODES`.
    sources : mapping of str to str
        Code -> who says so.
    gold_positions : mapping of str to int
        Letter -> how many reference answers stand under it, over the whole release; empty where nobody has
        counted. That one letter is right too often is a fault of the data as a whole.
    """

    version: str
    data: str
    codes: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, str]
    gold_positions: Mapping[str, int]


@functools.cache
def known_faults(name: str) -> Faults:
    """Return the known faults of a benchmark; none where there is no list of them.

    Parameters
    ----------
    name : str
        Key of `BENCHMARKS`.

    Returns
    -------
    Faults
    """
    file = FOLDER / f"{name}.json"
    if not file.is_file():
        return Faults("", "", {}, {}, {})
    content = json.loads(file.read_text(encoding="utf-8"))
    codes: dict[str, tuple[str, ...]] = {}
    for code, entry in content["faults"].items():
        for item in entry["ids"]:
            codes[item] = (*codes.get(item, ()), code)
    return Faults(
        content["version"],
        content["data"],
        MappingProxyType(codes),
        MappingProxyType({code: entry["source"] for code, entry in content["faults"].items()}),
        MappingProxyType(content["gold_positions"]),
    )
