"""Write what the rows of a benchmark show to be faulty: `python -m find_faults mmau ROWS`.

ROWS is the benchmark's `rows.jsonl` or its metadata as released (JSON or JSON lines). Ids, codes and counts
go into mmaupro_ext/benchmarks/faults/<name>.json; what others reported there is kept. Raise `version` by hand
when the file changes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from compare_released import read_rows
from mmaupro_ext.benchmarks import BENCHMARKS, Benchmark, faults
from mmaupro_ext.benchmarks.description import first_of
from mmaupro_ext.util import write_atomically

COUNTED = ("ungradeable", "duplicate-gold", "duplicate-choices")
SOURCE = "counted from the rows by tools/find_faults.py"


def fields_of(benchmark: Benchmark, row: dict[str, Any]) -> tuple[str, list[str], str | None]:
    """Return the id, the choices and the answer of a row, also where it cannot be asked."""
    if "question" in row and "choices" in row:  # metadata on GitHub, without letters
        return row["id"], row["choices"], first_of(row["answer"])
    assert benchmark.identify is not None
    assert benchmark.read_row is not None
    read = benchmark.read_row(row)
    return benchmark.identify(row)[0], read["choices"], read["answer"]


def count(benchmark: Benchmark, rows: list[dict[str, Any]]) -> tuple[dict[str, list[str]], dict]:
    """Return the ids by code, and how many reference answers stand under each letter."""
    found: dict[str, list[str]] = {code: [] for code in COUNTED}
    positions: Counter[str] = Counter()
    for row in rows:
        name, choices, answer = fields_of(benchmark, row)
        real = [choice for choice in choices if choice]
        if answer not in real:
            found["ungradeable"].append(name)
            continue
        positions[chr(ord("A") + choices.index(answer))] += 1
        if real.count(answer) > 1:
            found["duplicate-gold"].append(name)
        elif len(set(real)) < len(real):
            found["duplicate-choices"].append(name)
    return found, dict(sorted(positions.items()))


def main() -> None:
    """Write the file of one benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("benchmark", choices=[n for n, one in BENCHMARKS.items() if one.read_row])
    parser.add_argument("rows", type=Path, metavar="ROWS")
    arguments = parser.parse_args()
    benchmark = BENCHMARKS[arguments.benchmark]
    file = faults.FOLDER / f"{benchmark.name}.json"
    content: dict[str, Any] = {"version": "1", "faults": {}}
    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
    found, positions = count(benchmark, read_rows(arguments.rows))
    content["data"] = f"{benchmark.title} {benchmark.version}"
    content["gold_positions"] = positions
    for code, ids in found.items():
        content["faults"].pop(code, None)
        if ids:
            content["faults"][code] = {"source": SOURCE, "ids": sorted(ids)}
    write_atomically(file, json.dumps(content, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
