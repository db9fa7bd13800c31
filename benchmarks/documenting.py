"""What the scripts that write benchmarks/RESULTS.md share: the machine, the clock, the page."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = Path(__file__).with_name("RESULTS.md")
FIGURES = DOCS / "figures"


def put(name: str, body: str, file: Path = PAGE) -> None:
    """Replace what stands between the marks of this name in a page of the documentation."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = file.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    old, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{file}: no marks {begin} … {end}")
    file.write_text(f"{before}{begin}\n{body.strip()}\n{end}{after}", encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [list(header), ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """Say what this ran on, in general words."""
    from mmaupro_ext import native

    name, flags = platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip().replace("(R)", "")
            elif key.strip() == "flags":
                flags = value
    except OSError:  # not Linux
        pass
    kind = "shared virtual machine" if "hypervisor" in flags.split() else "machine"
    simd = native.info()["simd"]
    return f"{name}, {os.cpu_count()} cores, SIMD level {simd}, {kind}"


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def times(functions: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Time functions in turns, at least three rounds and until `seconds` are over."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    started = time.perf_counter()
    rounds = 0
    while rounds < 3 or (rounds < 200 and time.perf_counter() - started < seconds):
        for name, function in functions.items():
            before = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - before)
        rounds += 1
    return taken


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
