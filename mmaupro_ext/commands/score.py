"""`mmaupro score`: score logged replies again, under a named preset, without the audio model."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.commands import score_models
from mmaupro_ext.errors import ConfigError, MMAUProError
from mmaupro_ext.offline.judging import JUDGE, READER
from mmaupro_ext.scoring import presets
from mmaupro_ext.scoring.open_ended import JUDGE_MODEL
from mmaupro_ext.util import visible, write_atomically

if TYPE_CHECKING:
    from mmaupro_ext.offline.logged_runs import Run

FORMATS = ("table", "markdown", "latex", "csv", "json")

DESCRIPTION = """\
Score replies that lm_eval logged (--log_samples), offline, as often as you like. The same replies
give the same bytes.

A preset says how: `strict` guesses nothing and is the `acc` of the run's own table, `official` repeats
the released evaluator (that of MMAU-Pro needs NV-Embed-v2 for multiple choice and a judge for open
questions), `nemo-skills` repeats NeMo-Skills. Replies to several benchmarks are scored one by one.
"""

EPILOG = f"""\
examples:
  mmaupro score results/nano
  mmaupro score results/MODEL --judge hf:{JUDGE_MODEL}
  mmaupro score results/MODEL --judge http://localhost:8000/v1 --judge-model NAME
  mmaupro score results/MODEL --reader hf:{JUDGE_MODEL}
  mmaupro score results/MODEL --preset official --embedder nvidia/NV-Embed-v2
  mmaupro score results/MODEL --set gold=casefold --items items.jsonl
  mmaupro score results/MODEL --benchmark mmau --audited
  mmaupro score results/MODEL --explain ID
  mmaupro score --explain official

Exit status: 0; 1 when the judge or the reader failed on some items (the same command asks for them
again); 2 on an error; 3 with --strict-exit when too many items of a category were errored.
Answers of a judge or reader are kept on disk: an interrupted run goes on where it stopped. The key of
its server is read from the environment variable {JUDGE.key_variable} or {READER.key_variable}.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro score`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="folder of results or samples_*.jsonl file; several form one run together",
    )
    parser.add_argument(
        "--preset", default="strict", help=f"{', '.join(presets.PRESETS)} (default: strict)"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="override one option of the preset; may be given several times",
    )
    parser.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="PRESET or ID",
        help="say what a preset sets, or which presets there are; or, with a run, what strict and official "
        "scoring make of the reply to an item; and stop",
    )
    replies = parser.add_argument_group("replies")
    replies.add_argument(
        "--benchmark",
        metavar="NAME",
        help="score the replies to one benchmark of the run, or to one prompt of it (mmaupro-text): "
        + ", ".join(BENCHMARKS),
    )
    replies.add_argument("--time", help="time stamp of a folder's run, or its beginning")
    replies.add_argument(
        "--reply-field",
        default="resps",
        metavar="FIELD",
        help="field of the samples that holds the reply: resps, as the model wrote it (default), or "
        "filtered_resps",
    )
    replies.add_argument(
        "--accept-changed",
        action="store_true",
        help="score although items are missing (--limit), not those of the dataset, or not asked as "
        "the benchmark asks them; the result says so",
    )
    replies.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the full dataset: compares the documents with it, and measures lengths by its "
        "manifest.json",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        metavar="DIR",
        help="where scores_<preset>_<time of the run>.json goes (default: beside the run)",
    )
    output.add_argument(
        "--format",
        choices=FORMATS,
        default="table",
        help="of what is printed: table (default), markdown, latex, csv or json",
    )
    output.add_argument(
        "--items",
        metavar="FILE",
        help="write one line of JSON an item as well: what was asked, the reply, the words that decided",
    )
    output.add_argument(
        "--audited",
        action="store_true",
        help="print the score without items that are known to be faulty beside each score",
    )
    output.add_argument(
        "--submission",
        metavar="FILE",
        help="write the file for the authors of a benchmark whose answers are withheld (mmau-test)",
    )
    output.add_argument(
        "--groups", action="store_true", help="print the tables by skill, length and so on as well"
    )
    output.add_argument(
        "--errored-limit",
        type=float,
        default=2.0,
        metavar="PERCENT",
        help="mark the score of a category of which more items have no answer or no verdict (2)",
    )
    output.add_argument(
        "--strict-exit", action="store_true", help="exit with status 3 when a score is marked"
    )
    score_models.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro score` and return the exit status."""
    try:
        return _run(args)
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The answers so far are kept: the same command goes on from there.",
            file=sys.stderr,
        )
        return 130
    except MMAUProError as error:
        print(visible(f"mmaupro score: {error}"), file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    if args.explain is not None:
        print(_explanation(args))
        return 0
    if not args.runs:
        raise ConfigError("name a folder of results, for instance: mmaupro score results/MODEL")
    from mmaupro_ext.offline import logged_runs, rescoring, summary
    from mmaupro_ext.report import scores

    runs = logged_runs.read_all(
        args.runs, args.time, args.reply_field, args.accept_changed, args.data_dir, args.benchmark
    )
    # Before any is scored: a preset that one of them has not is refused.
    wanted = [presets.resolve(args.preset, args.overrides, run.name) for run in runs]
    statuses = []
    lines = []
    for position, (replies, preset) in enumerate(zip(runs, wanted, strict=True)):
        kinds = {item.kind for item in replies.items}
        verdicts, result = rescoring.score_run(
            replies,
            preset,
            embedder=score_models.embedder_of(args, preset) if "closed" in kinds else None,
            judge=score_models.judge_of(args, preset) if "open" in kinds and args.judge else None,
            reader=score_models.reader_of(args, preset)
            if "closed" in kinds and args.reader
            else None,
            data_dir=args.data_dir,
            lost_limit=args.errored_limit,
        )
        folder = Path(args.output) if args.output else replies.files[0].parent
        name = "" if replies.name == MMAUPRO else f"{replies.name}_"
        label = re.sub(r"[^A-Za-z0-9_.+=-]", "_", result["label"])
        result["arguments"] = _arguments(args)
        target = _keep(folder / f"scores_{name}{label}_{replies.times[-1]}.json", result)
        if args.format == "table":
            if position:
                print()
            print(visible(scores.render(result, groups=args.groups, audited=args.audited)))
            for note in (*replies.notes, *replies.deviations[:5]):
                print(visible(f"note: {note}"))
            print(f"Scores: {target}")
        else:
            print(_in_notation(result, args))
        lines.append(summary.item_lines(replies, verdicts))
        statuses.append(_status(args, result, list(scores.warnings(result))))
    if args.items:
        _write(Path(args.items), "".join(lines))
        if args.format == "table":
            print(f"Items:  {args.items}")
    if args.submission:
        print(_submit(args, runs))
    return max(statuses)


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return what was asked for and the result does not say otherwise, as far as it decides on numbers."""
    names = ("time", "reply_field", "accept_changed", "errored_limit")
    return {name: getattr(args, name) for name in names}


def _in_notation(result: dict[str, Any], args: argparse.Namespace) -> str:
    from mmaupro_ext.offline import summary
    from mmaupro_ext.report import notations, scores

    if args.format == "json":
        return summary.to_json(result).rstrip("\n")
    header, rows = scores.category_table(result, args.audited)
    title = f"{result['model']}, preset {result['label']}, {result['benchmark']}"
    cells = [["-" if cell is None else cell for cell in row] for row in rows]
    if args.format == "latex":
        return notations.latex(header, cells, f"per cent; {title}")
    if args.format == "csv":
        return notations.comma_separated(header, cells)
    return f"{title}\n\n{notations.markdown(header, cells)}"


def _keep(target: Path, result: dict[str, Any]) -> Path:
    """Write scores where none of the same name with other numbers are: those are kept."""
    from mmaupro_ext.offline import summary

    content = summary.to_json(result)
    place, number = target, 1
    while place.is_file() and place.read_bytes() != content.encode():
        number += 1
        place = target.with_name(f"{target.stem}-{number}.json")
    _write(place, content)
    return place


def _status(args: argparse.Namespace, result: dict[str, Any], warnings: list[str]) -> int:
    """Print the warnings of a result, last, where they are seen, and return its exit status."""
    for warning in warnings:
        print(visible(warning))
    if warnings and args.strict_exit:
        return 3
    failed = (result.get("open") or {}).get("judge_errors", 0)
    failed += (result["reader"] or {}).get("read", {}).get("failed", 0)
    return 1 if failed else 0


def _submit(args: argparse.Namespace, runs: Sequence[Run]) -> str:
    from mmaupro_ext.offline.submission import submission

    if len(runs) > 1:
        names = ", ".join(run.name for run in runs)
        raise ConfigError(f"--submission is of one benchmark, not of {names}. Add --benchmark NAME")
    # What the released rule is shown, whatever the preset of the table.
    preset = presets.resolve("official", args.overrides, runs[0].name)
    content, errored = submission(runs[0], preset)
    _write(Path(args.submission), content)
    lost = f"; {errored} not served, with an empty reply" if errored else ""
    return f"Submission: {args.submission} ({len(runs[0].items):,} replies{lost})"


def _explanation(args: argparse.Namespace) -> str:
    if args.runs:
        return _explained_item(args)
    if args.explain:
        return presets.explain(presets.resolve(args.explain, args.overrides))
    about = [f"{preset.name}: {preset.about}" for preset in presets.PRESETS.values()]
    return "\n".join([*about, "", "mmaupro score --explain PRESET says what one of them sets."])


def _explained_item(args: argparse.Namespace) -> str:
    from mmaupro_ext.offline import logged_runs
    from mmaupro_ext.report.reply_explained import explain_item

    runs = logged_runs.read_all(
        args.runs, args.time, args.reply_field, True, args.data_dir, args.benchmark
    )
    found = [
        explain_item(run, item) for run in runs for item in run.items if item.id == args.explain
    ]
    if not found:
        count = sum(len(run.items) for run in runs)
        raise ConfigError(
            f"no item {args.explain!r} is among the {count:,} of this run. --explain takes the id of one "
            "(see --items), or without a run the name of a preset"
        )
    return "\n\n".join(found)


def _write(target: Path, content: str) -> None:
    try:
        write_atomically(target, content)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error}). Use --output DIR") from error
