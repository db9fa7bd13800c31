"""`mmaupro frontend`: what the native frontend is, how fast it is here, and what it hears."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmaupro_ext import __version__, native
from mmaupro_ext.data import text
from mmaupro_ext.data.verify import add_json_argument, put_json
from mmaupro_ext.errors import AudioError, MMAUProError
from mmaupro_ext.native import select
from mmaupro_ext.report import figures
from mmaupro_ext.report import frontend_measure as measure
from mmaupro_ext.report.frontend_measure import STAGES, TARGET, WHOLE

DESCRIPTION = "Look inside the native frontend: what it is, how fast it is here, what it hears."

INFO = """\
The compiled core that runs now and the others that could, and the response of the resampler from
the usual rates to 16 kHz, computed from the filter that each plan holds.
"""

INFO_EPILOG = """\
examples:
  mmaupro frontend info
  mmaupro frontend info --rate 44100 --rate 37800
  MMAUPRO_SIMD=avx2 mmaupro frontend info         another level, as for any command
  MMAUPRO_NATIVE=numba mmaupro frontend info      the Numba twin (or scipy: the last fallback)

"pass to" is the frequency up to which the gain stays within 1e-4 dB; "alias" the highest gain from
the lower Nyquist frequency on, without the rounding of float32 (about -138 dB). Rates without a
plan are resampled by soxr HQ.
"""

BENCH = """\
Your files on your machine: decode, mix, resample and features in milliseconds for a second of
audio, against librosa and transformers where they are installed, stage by stage in turns on one
thread. Without FILE, clips are made up: 44.1-kHz stereo in four formats and 16-kHz mono.
"""

BENCH_EPILOG = """\
examples:
  mmaupro frontend bench
  mmaupro frontend bench talk.mp3 song.flac --figure bench.png
  mmaupro frontend bench talk.mp3 --seconds 60 --json bench.json

features: Whisper's log-mel, 128 bands, of the whole clip, neither cut nor padded. "file to
features" is timed by itself: our loader works block by block, so it may take less than its stages.
ratio: median of the rivals over our median. Close other programs first; "fastest" suffers least
from them.

exit status: 0; 1 when a file cannot be used (the others are timed); 2 for a wrong option.
"""

PLOT = """\
One file as a picture: waveforms, the features that four families of models get of it, and the
windows in which each model hears it. Needs matplotlib: pip install 'mmaupro-ext[plot]'.
"""

PLOT_EPILOG = """\
examples:
  mmaupro frontend plot talk.mp3 --figure talk.png
  mmaupro frontend plot talk.mp3 --figure talk.svg --json windows.json
"""

VERSIONS = ("numpy", "scipy", "soundfile", "soxr", "numba", "librosa", "transformers", "torch")


def add_frontend_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the subcommands `info`, `bench` and `plot` with their options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser of `mmaupro frontend`.
    """
    parser.description = DESCRIPTION
    actions = parser.add_subparsers(dest="frontend_action", metavar="ACTION", required=True)
    info = _action(actions, "info", "SIMD level, backend, versions, resampler", INFO, INFO_EPILOG)
    info.add_argument(
        "--rate",
        action="append",
        type=int,
        metavar="HZ",
        help="response from this rate instead of the usual ones (may be repeated)",
    )
    add_json_argument(info)

    bench = _action(
        actions, "bench", "your files, your machine: time by stage", BENCH, BENCH_EPILOG
    )
    bench.add_argument("files", nargs="*", metavar="FILE", help="audio files to time")
    bench.add_argument(
        "--seconds",
        type=_positive,
        default=20.0,
        help="time to spend in all (default: %(default)g); every file gets at least "
        f"{measure.LEAST_ROUNDS} rounds",
    )
    bench.add_argument(
        "--length",
        type=_positive,
        default=30.0,
        metavar="SECONDS",
        help="length of the made-up clips (default: %(default)g)",
    )
    bench.add_argument(
        "--figure", metavar="FILE", help="draw a bar chart (.png, .pdf or .svg; needs matplotlib)"
    )
    add_json_argument(bench)

    plot = _action(actions, "plot", "one file as each model hears it", PLOT, PLOT_EPILOG)
    plot.add_argument("file", metavar="FILE", help="audio file")
    plot.add_argument(
        "--figure", required=True, metavar="OUT", help="picture to write (.png, .pdf or .svg)"
    )
    add_json_argument(plot)


def _action(
    actions: Any, name: str, summary: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    return actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _positive(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= 7200.0:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds from 0.1 to 7200")
    return number


def run_frontend(args: argparse.Namespace) -> int:
    """Run `mmaupro frontend`.

    Parameters
    ----------
    args : argparse.Namespace
        What `add_frontend_arguments` describes.

    Returns
    -------
    int
        Exit status: 0; 1 when a file to time cannot be used; 2 for a wrong option, or a file that
        cannot be drawn.
    """
    run = {"info": _run_info, "bench": _run_bench, "plot": _run_plot}[args.frontend_action]
    try:
        return run(args)
    except MMAUProError as error:
        print(f"mmaupro frontend {args.frontend_action}: {error}", file=sys.stderr)
        return 2


# --- info --------------------------------------------------------------------------------------


def _run_info(args: argparse.Namespace) -> int:
    facts = describe(args.rate or [rate for rate in measure.USUAL_RATES if rate != TARGET])
    if args.json != "-":
        print(render_info(facts))
    put_json(facts, args.json)
    return 0


def describe(rates: list[int]) -> dict[str, Any]:
    """Return what `mmaupro frontend info` prints.

    Parameters
    ----------
    rates : list of int
        Rates in Hz whose resampling to 16 kHz is described.

    Returns
    -------
    dict
        `native` (of `mmaupro_ext.native.info`), `backends`, `versions`, and `resampler`: a list of
        dict with `orig_sr`, `target_sr`, `route` and, where the route is native, `pass_hz`,
        `tenth_db_hz`, `three_db_hz`, `ripple_db`, `alias_db`.
    """
    running = native.info()
    return {
        "native": running,
        "backends": select.backends(),
        "versions": {"mmaupro-ext": __version__, **{name: _version(name) for name in VERSIONS}},
        "resampler": [_response_row(rate) for rate in rates],
    }


def _response_row(rate: int) -> dict[str, Any]:
    from mmaupro_ext import audio

    row = {"orig_sr": rate, "target_sr": TARGET, "route": audio.resampler_used(rate, TARGET)}
    response = measure.resampler_response(rate) if row["route"] == "native" else None
    if response is None:
        return row
    return row | {
        "pass_hz": round(response.pass_hz, 1),
        "tenth_db_hz": round(response.tenth_hz, 1),
        "three_db_hz": round(response.three_hz, 1),
        "ripple_db": response.ripple_db,
        "alias_db": round(response.alias_db, 1),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def render_info(facts: dict[str, Any]) -> str:
    """Return the facts as text."""
    running = facts["native"]
    levels = ", ".join(running["simd_available"]) or "none: the compiled core is not installed"
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [
        f"backend   {running['backend']}   (available: {', '.join(facts['backends'])}; "
        "MMAUPRO_NATIVE picks)",
        f"SIMD      {running['simd']}   (available: {levels}; MMAUPRO_SIMD picks)",
        f"threads   {running['threads']} usable; a kernel runs on one unless told otherwise",
        text.paragraph(versions, " " * 10).replace(" " * 10, "versions  ", 1),
        "",
        f"Resampler to {TARGET:,} Hz (frequencies in Hz, levels in dB):",
        text.table(
            ("from", "route", "pass to", "-0.1 dB", "-3 dB", "ripple", "alias"),
            [
                [
                    row["orig_sr"],
                    {"none": "as it is", "soxr": "soxr HQ"}.get(row["route"], row["route"]),
                    *(_hz(row.get(key)) for key in ("pass_hz", "tenth_db_hz", "three_db_hz")),
                    f"{row['ripple_db']:.0e}" if "ripple_db" in row else None,
                    row.get("alias_db"),
                ]
                for row in facts["resampler"]
            ],
        ),
    ]
    return "\n".join(lines)


def _hz(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


# --- bench -------------------------------------------------------------------------------------


def _run_bench(args: argparse.Namespace) -> int:
    target = figures.check_target(args.figure) if args.figure else None
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory(prefix="mmaupro-bench-") as folder:
        files = args.files or measure.generate_clips(Path(folder), args.length)
        rivals = measure.find_rivals()
        clips, problems = [], []
        for path in files:
            print(f"timing {Path(path).name} ...", file=sys.stderr)
            try:
                clip = measure.bench_clip(path, rivals, args.seconds / len(files))
                # A made-up clip is gone when this ends; its folder means nothing.
                clips.append(clip if args.files else clip | {"path": Path(path).name})
            except AudioError as error:
                problems.append(str(error))
    facts = {
        "native": native.info(),
        "versions": {"mmaupro-ext": __version__, **{name: _version(name) for name in VERSIONS}},
        "load_before": load,
        "missing": rivals.missing,
        "made_up": not args.files,
        "clips": clips,
        "problems": problems,
    }
    if args.json != "-":
        print(render_bench(facts))
    put_json(facts, args.json)
    for problem in problems:
        print(f"mmaupro frontend bench: {problem}", file=sys.stderr)
    if target is not None and clips:
        from mmaupro_ext.report import frontend_figures

        frontend_figures.draw_bench(clips, _about(facts), target)
        print(f"\nPicture: {target}", file=sys.stderr)
    return 1 if problems else 0


def _about(facts: dict[str, Any]) -> str:
    """Return the conditions of a measurement in one line."""
    running, versions = facts["native"], facts["versions"]
    rounds = sorted({clip["rounds"] for clip in facts["clips"]})
    span = "-".join(str(n) for n in dict.fromkeys((rounds[0], rounds[-1]))) if rounds else "0"
    load = "" if facts["load_before"] is None else f", load before {facts['load_before']:.1f}"
    return (
        f"mmaupro-ext {__version__} ({running['backend']}, {running['simd']}), "
        f"librosa {versions['librosa']}, transformers {versions['transformers']}; "
        f"one thread of {running['threads']}, {span} rounds in turns{load}"
    )


def render_bench(facts: dict[str, Any]) -> str:
    """Return the times as text, one table for each clip."""
    lines = [_about(facts)]
    if facts["missing"]:
        lines.append(
            f"Not installed, so not compared: {', '.join(facts['missing'])} "
            "(pip install 'mmaupro-ext[bench]')."
        )
    load, threads = facts["load_before"], facts["native"]["threads"]
    if load is not None and load > 0.5 * threads:
        lines.append(
            f"Other programs are computing here (load {load:.1f} on {threads} processors): "
            "trust the fastest round more than the median."
        )
    lines.append("Milliseconds for one second of audio.")
    for clip in facts["clips"]:
        lines += ["", _clip_line(clip), _stage_table(clip)]
        if clip["largest_difference"] is not None:
            lines.append(
                f"Features of the same samples differ by {clip['largest_difference']:.1e} at most."
            )
    return "\n".join(lines)


def _clip_line(clip: dict[str, Any]) -> str:
    channels = {1: "mono", 2: "stereo"}.get(clip["channels"], f"{clip['channels']} channels")
    return (
        f"{clip['path']}: {clip['seconds']:.2f} s, {clip['sampling_rate']:,} Hz, {channels}, "
        f"{clip['format']}"
    )


def _stage_table(clip: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for stage in (*STAGES, WHOLE):
        times = clip["stages"].get(stage)
        if times is None:
            continue
        ours, theirs = times["ours"], times["theirs"]
        cells: list[object] = [f"{ours['median']:.3f}", f"{ours['fastest']:.3f}"]
        if theirs is None:
            cells += ["not installed", None, None]
        else:
            cells += [f"{theirs['median']:.3f}", f"{theirs['fastest']:.3f}"]
            cells.append(f"{times['ratio']:.1f}x")
        rows.append([stage, *cells])
    return text.table(("stage", "ours", "fastest", "rivals", "fastest", "ratio"), rows)


# --- plot --------------------------------------------------------------------------------------


def _run_plot(args: argparse.Namespace) -> int:
    target = figures.check_target(args.figure)
    from mmaupro_ext.report import frontend_figures

    facts = frontend_figures.draw_clip(args.file, target)
    if args.json != "-":
        print(f"{_clip_line(facts)}\nPicture: {target}")
    put_json(facts, args.json)
    return 0
