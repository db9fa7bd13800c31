"""Plans of the kernels as C, and inputs to start from, for csrc/fuzz: `python tools/fuzz_plans.py FOLDER`.

Plans of every shape that a kernel has code for, small enough that thousands of calls a second are made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from mmaupro_ext.features import mel, whisper
from mmaupro_ext.native.resample_plan import ResamplePlan, Transform, resample_plan
from mmaupro_ext.native.stft_plan import Plan

RATES = (
    (44100, 16000),
    (16000, 44100),
    (48000, 16000),
    (8000, 16000),
    (11024, 16000),
    (22050, 24000),
)


def bank(n_fft: int, n_mels: int) -> np.ndarray:
    """Return a small bank of triangles: HTK's where there is room, else one bin each."""
    if n_fft >= 128:
        return mel.filter_bank(n_fft, n_mels, scale="htk")
    filters = np.zeros((n_fft // 2 + 1, min(n_mels, n_fft // 2 + 1)))
    np.fill_diagonal(filters, 1.0)
    return filters


def plan(n_fft: int, length: int, hop: int, **settings: Any) -> Plan:
    """Return a plan; the logarithm has a floor unless the settings say otherwise."""
    n_mels = settings.pop("n_mels", 20)
    return Plan(
        window=np.hanning(length + 2)[1:-1],
        hop_length=hop,
        n_fft=n_fft,
        filters=bank(n_fft, n_mels),
        **({"floor": 1e-10} | settings),
    )


def stft_plans() -> list[Plan]:
    """Return plans of all radices, boundaries, kinds of emphasis, precisions and layouts."""
    plans = [whisper.plan_of_filters(whisper.mel_filters(80))]
    for precision in ("float", "double"):
        both = {"precision": precision}
        plans += [
            plan(400, 400, 160, boundary="mirror", offset=200, bands_first=True, span=8.0, **both),
            plan(512, 400, 160, emphasis=0.97, emphasis_kind="frame", **both),
            plan(512, 320, 160, emphasis=0.97, emphasis_kind="signal", offset=256, **both),
            plan(1024, 512, 160, magnitude=True, power_floor=1e-9, n_mels=128, **both),
            plan(512, 512, 128, linear=True, offset=256, **both),
            plan(256, 250, 1, span=4.0, **both),
            plan(160, 160, 400, **both),
            plan(64, 33, 7, emphasis=0.5, emphasis_kind="signal", bands_first=True, **both),
            *(
                plan(n_fft, n_fft, 3, n_mels=5, **both)
                for n_fft in (1, 2, 3, 4, 5, 7, 8, 9, 14, 16, 24, 49, 60)
            ),
        ]
    return plans


# ---- as C -----------------------------------------------------------------------------------------


class Writer:
    """C source: arrays first, then what points to them."""

    def __init__(self) -> None:
        self.lines: list[str] = ["#include <math.h>", '#include "cpu.h"']
        self._arrays = 0

    def array(self, values: Any) -> str:
        """Write an array and return its name; NULL where it is empty."""
        flat = np.ascontiguousarray(values).ravel()
        if not flat.size:
            return "NULL"
        kind = {"f4": "float", "f8": "double", "i4": "int32_t"}[flat.dtype.str[1:]]
        text = ", ".join(number(value) for value in flat)
        self._arrays += 1
        self.lines.append(f"static const {kind} a{self._arrays}[] = {{{text}}};")
        return f"a{self._arrays}"

    def structure(self, kind: str, name: str, fields: dict[str, Any]) -> None:
        """Write a structure with designated fields."""
        text = ",\n    ".join(f".{key} = {value}" for key, value in fields.items())
        self.lines.append(f"static const {kind} {name} = {{\n    {text}}};")


def number(value: Any) -> str:
    """Return a number as C that loses no bit."""
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(int(value))
    if not np.isfinite(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return float(value).hex() + ("f" if isinstance(value, np.float32) else "")


def braces(values: Any) -> str:
    """Return numbers as the initialiser of an array within a structure."""
    return "{" + ", ".join(number(value) for value in np.asarray(values)) + "}"


def write_stft(writer: Writer, source: Plan) -> str:
    """Write a plan as core.pyx fills it in; return the entry of the table."""
    tables = source.tables
    emphasis = {
        None: "MM_EMPHASIS_NONE",
        "signal": "MM_EMPHASIS_SIGNAL",
        "frame": "MM_EMPHASIS_FRAME",
    }
    fields: dict[str, Any] = {
        "limit": number(np.float32(source.limit)),
        "boundary": f"MM_BOUNDARY_{source.boundary.upper()}",
        "emphasis_kind": emphasis[source.emphasis_kind],
        "passes": len(tables["radices"]),
        "radices": braces(tables["radices"]),
        "log_terms": braces(tables["log_terms"]),
        "span": number(np.float32(np.inf if source.span is None else source.span)),
    }
    for key in ("hop_length", "emphasis", "n_fft", "n_mels", "magnitude"):
        fields[key] = number(getattr(source, key))
    for key in ("linear", "bands_first", "floor", "add", "shift"):
        fields[key] = number(getattr(source, key))
    for key in ("frame_length", "offset", "radix", "step", "columns", "rows", "first_bin"):
        fields[key] = number(tables[key])
    for key in ("power_floor", "lowest", "exponent_high", "exponent_low"):
        fields[key] = number(tables[key])
    for key in ("window", "turns", "pass_turns", "bins", "segment_bins", "rising", "falling"):
        fields[key] = writer.array(tables[key])
    text = ",\n    ".join(f".{key} = {value}" for key, value in fields.items())
    return f"{{.in_double = {number(source.precision == 'double')}, .plan = {{\n    {text}}}}}"


def write_resample(writer: Writer, name: str, source: ResamplePlan) -> None:
    """Write a plan of the resampler."""

    def transform(of: Transform) -> str:
        tables = ", ".join(writer.array(table) for table in of.twiddles)
        return (
            f"{{.n = {of.points}, .stages = {len(of.radices)}, .radix = {braces(of.radices)}, "
            f".twiddles = {{{tables}}}}}"
        )

    fields: dict[str, Any] = {"in": transform(source.forward), "out": transform(source.inverse)}
    for key in ("hop_in", "hop_out", "context"):
        fields[key] = getattr(source, key)
    for key in ("bin_row", "response", "zero_row", "out_row"):
        fields[key] = writer.array(getattr(source, key))
    fields["n_zero"] = len(source.zero_row)
    writer.structure("mm_resample_plan", name, fields)


def header() -> str:
    """Return all plans as one header."""
    writer = Writer()
    entries = [write_stft(writer, found) for found in stft_plans()]
    names = []
    for orig_sr, target_sr in RATES:
        found = resample_plan(orig_sr, target_sr)
        assert found is not None
        names.append(f"r{orig_sr}_{target_sr}")
        write_resample(writer, names[-1], found)
    writer.lines += [
        "typedef struct { int in_double; mm_stft_plan plan; } mm_fuzz_stft_plan;",
        "static const mm_fuzz_stft_plan mm_fuzz_stft[] = {" + ",\n".join(entries) + "};",
        f"enum {{ mm_fuzz_stft_count = {len(entries)}, mm_fuzz_resample_count = {len(names)} }};",
        "static const mm_resample_plan *const mm_fuzz_resample[] = {"
        + ", ".join(f"&{name}" for name in names)
        + "};",
    ]
    return "\n".join(writer.lines) + "\n"


def seeds(folder: Path) -> None:
    """Write an input for each kernel and plan at each level, with sound and with odd floats."""
    noise = np.random.default_rng(0)
    odd = np.array([0, 1, -1, np.nan, np.inf, -np.inf, 1e38, 1e-45], np.float32)
    plans = [len(stft_plans()), len(RATES), 9, len(stft_plans())]
    for kernel, count in enumerate(plans):
        for chosen in range(count):
            for level in range(5):
                head = noise.integers(0, 1 << 16, 8).astype(">u2")
                content = (
                    noise.integers(0, 256, int(noise.integers(0, 3000))).astype(np.uint8).tobytes()
                )
                if (chosen + level) % 2:
                    content = noise.choice(odd, int(noise.integers(0, 500))).tobytes()
                start = np.array([kernel, level, chosen], ">u2").tobytes()
                (folder / f"{kernel}-{chosen}-{level}").write_bytes(
                    start + head.tobytes() + content
                )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    (target / "seeds").mkdir(parents=True, exist_ok=True)
    (target / "plans.h").write_text(header())
    seeds(target / "seeds")
