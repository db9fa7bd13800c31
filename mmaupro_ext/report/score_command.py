"""`mmaupro score`: score logged replies again, under a named preset, without the audio model."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.data import CATEGORY_BY_VALUE, text
from mmaupro_ext.errors import ConfigError, MMAUProError
from mmaupro_ext.offline import judges, logged_runs, summary
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.paths import cache_dir
from mmaupro_ext.scoring import presets, verdicts
from mmaupro_ext.scoring.open_ended import JUDGE_MODEL
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.verdicts import Item, Verdict

if TYPE_CHECKING:
    from mmaupro_ext.offline.embedders import TokenEmbedder

DESCRIPTION = """\
Score replies that lm_eval logged (--log_samples), offline, as often as you like. The same replies
give the same bytes.

A preset says how: `strict` guesses nothing, `official` repeats the released evaluator (it needs
NV-Embed-v2 for multiple choice and a judge for open questions), `nemo-skills` repeats NeMo-Skills.
"""

EPILOG = f"""\
examples:
  mmaupro score results/nano
  mmaupro score results/MODEL --judge hf:{JUDGE_MODEL}
  mmaupro score results/MODEL --judge http://localhost:8000/v1 --judge-model NAME
  mmaupro score results/MODEL --preset official --embedder nvidia/NV-Embed-v2
  mmaupro score results/MODEL --set gold=casefold --items items.jsonl
  mmaupro score --explain official

A judge's answers are kept on disk: an interrupted run goes on where it stopped. The key of a
server is read from the environment variable {judges.KEY_VARIABLE}.
"""

NO_EMBEDDER = "none"
OFFICIAL_EMBEDDER = "nvidia/NV-Embed-v2"
GROUP_TITLES = {
    "perceptual_skills": "perceptual skill",
    "reasoning_skills": "reasoning skill",
    "sub-cat": "sub-category (music: region)",
    "length_type": "length (as labelled)",
    "measured_length": "length (measured)",
    "clips": "clips",
    "choices": "choices",
}


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro score`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser of the subcommand.
    """
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
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
    parser.add_argument("--explain", metavar="PRESET", help="say what a preset sets, and stop")
    replies = parser.add_argument_group("replies")
    replies.add_argument("--time", help="time stamp of a folder's run, or its beginning")
    replies.add_argument(
        "--reply-field",
        default="resps",
        choices=logged_runs.REPLY_FIELDS,
        help="field of the samples that holds the reply (default: resps, as the model wrote it)",
    )
    replies.add_argument(
        "--accept-changed",
        action="store_true",
        help="score although items are missing (--limit) or not those of the dataset; labelled",
    )
    replies.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the full dataset: compares the documents with it, and measures lengths by its "
        "manifest.json",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", metavar="DIR", help="where scores_<preset>.json goes (default: beside the run)"
    )
    output.add_argument("--items", metavar="FILE", help="write one line of JSON an item as well")
    output.add_argument(
        "--groups", action="store_true", help="print the tables by skill, length and so on as well"
    )
    embedder = parser.add_argument_group("embedder (options closed=embedding)")
    embedder.add_argument(
        "--embedder",
        metavar="NAME",
        default=OFFICIAL_EMBEDDER,
        help=f"model or folder; {NO_EMBEDDER} leaves multiple choice unscored "
        f"(default: {OFFICIAL_EMBEDDER})",
    )
    embedder.add_argument("--embedder-device", default="auto", metavar="DEVICE")
    _add_judge_arguments(parser)


def _add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    judge = parser.add_argument_group("judge of open questions")
    judge.add_argument(
        "--judge", metavar="JUDGE", help="hf:NAME, or a server's address http://…/v1"
    )
    judge.add_argument("--judge-model", metavar="NAME", help="name of the model at the server")
    judge.add_argument(
        "--judge-key-env",
        metavar="VARIABLE",
        default=judges.KEY_VARIABLE,
        help=f"environment variable with the server's key (default: {judges.KEY_VARIABLE})",
    )
    judge.add_argument(
        "--judge-cache",
        metavar="DIR",
        default=str(cache_dir() / "judge"),
        help="where answers are kept (default: %(default)s)",
    )
    judge.add_argument(
        "--judge-concurrency", type=int, default=8, metavar="N", help="requests at a time (8)"
    )
    judge.add_argument(
        "--judge-per-minute", type=float, metavar="N", help="requests a minute at most"
    )
    judge.add_argument(
        "--judge-timeout", type=float, default=120.0, metavar="S", help="seconds a request (120)"
    )
    judge.add_argument(
        "--judge-tries", type=int, default=6, metavar="N", help="requests an item at most (6)"
    )
    judge.add_argument("--judge-device", default="auto", metavar="DEVICE", help="of a local judge")
    judge.add_argument("--judge-dtype", default=judges.JUDGE_DTYPE, metavar="DTYPE")
    judge.add_argument("--judge-batch-size", type=int, default=1, metavar="N")


def run_score(args: argparse.Namespace) -> int:
    """Run `mmaupro score`.

    Parameters
    ----------
    args : argparse.Namespace
        What `add_score_arguments` describes.

    Returns
    -------
    int
        0; 1 when the judge failed on some items; 2 on an error; 130 after Ctrl-C.
    """
    try:
        return _run_score(args)
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The judge's answers are kept: the same command goes on from there.",
            file=sys.stderr,
        )
        return 130
    except MMAUProError as error:
        print(f"mmaupro score: {error}", file=sys.stderr)
        return 2


def _run_score(args: argparse.Namespace) -> int:
    if args.explain:
        print(presets.explain(presets.resolve(args.explain, args.overrides)))
        return 0
    if not args.runs:
        raise ConfigError("name a folder of results, for instance: mmaupro score results/MODEL")
    preset = presets.resolve(args.preset, args.overrides)
    replies = logged_runs.read_runs(
        args.runs, args.time, args.reply_field, args.accept_changed, args.data_dir
    )
    judge = _judge(args, preset, replies.items)
    found, result = _score(args, replies, preset, judge)
    label = _label(preset, result)
    result["label"] = label
    folder = Path(args.output) if args.output else replies.files[0].parent
    target = folder / f"scores_{re.sub(r'[^A-Za-z0-9_.+=-]', '_', label)}.json"
    _write(target, summary.to_json(result))
    if args.items:
        _write(Path(args.items), summary.item_lines(replies, found))
    print(render(result, groups=args.groups))
    for note in (*replies.notes, *replies.deviations[:5]):
        print(f"note: {note}")
    print(f"Scores: {target}" + (f"\nItems:  {args.items}" if args.items else ""))
    return 1 if (result.get("open") or {}).get("judge_errors") else 0


def _write(target: Path, content: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error}). Use --output DIR") from error


def _judge(
    args: argparse.Namespace, preset: Preset, items: Sequence[Item]
) -> judges.CachedJudge | None:
    if not args.judge or not any(item.doc["category"] == "open" for item in items):
        return None
    settings = judges.ServerSettings(
        concurrency=args.judge_concurrency,
        per_minute=args.judge_per_minute,
        timeout_s=args.judge_timeout,
        tries=args.judge_tries,
    )
    judge = judges.load_judge(
        args.judge,
        preset.options.judge_decoding,
        args.judge_model,
        args.judge_key_env,
        settings,
        dtype=args.judge_dtype,
        device=args.judge_device,
        batch_size=args.judge_batch_size,
    )
    return judges.CachedJudge(judge, args.judge_cache)


def _embedder(args: argparse.Namespace, preset: Preset) -> TokenEmbedder | None:
    if preset.options.closed != "embedding" or args.embedder == NO_EMBEDDER:
        return None
    from mmaupro_ext.offline.embedders import load_embedder

    try:
        return load_embedder(
            args.embedder, cache_dir=cache_dir() / "embeddings", device=args.embedder_device
        )
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nPreset {preset.name} needs an embedder for multiple choice. Name a folder or "
            f"another model with --embedder, or leave multiple choice unscored with --embedder "
            f"{NO_EMBEDDER}"
        ) from error


def _details(embedder: TokenEmbedder) -> dict[str, Any]:
    """Return what a result says of the embedder: a folder by its name, wherever it lies."""
    details = embedder.details()
    folder = Path(details["name"]).expanduser()
    return {**details, "name": folder.resolve().name} if folder.is_dir() else details


def _score(
    args: argparse.Namespace,
    replies: Run,
    preset: Preset,
    judge: judges.CachedJudge | None,
) -> tuple[list[Verdict], dict[str, Any]]:
    """Return the verdicts in the order of the items, and the result."""
    options = preset.options
    by_kind: dict[str, list[Item]] = {"closed": [], "open": [], "instruction": []}
    for item in replies.items:
        by_kind[CATEGORY_BY_VALUE[item.doc["category"]].kind].append(item)
    embedder = _embedder(args, preset) if by_kind["closed"] else None
    found = [
        *verdicts.closed_verdicts(by_kind["closed"], options, embedder),
        *verdicts.instruction_verdicts(by_kind["instruction"], options),
        *verdicts.open_verdicts(
            by_kind["open"],
            options,
            None if judge is None else _ask(judge, by_kind["open"], preset),
        ),
    ]
    by_id = {verdict.id: verdict for verdict in found}
    ordered = [by_id[item.id] for item in replies.items]
    result = summary.summarise(
        replies,
        ordered,
        preset,
        logged_runs.clip_seconds(replies.dataset, args.data_dir),
        embedder=None if embedder is None else _details(embedder),
        judge=None if judge is None else judge.identity(),
    )
    return ordered, result


def _ask(judge: judges.CachedJudge, items: Sequence[Item], preset: Preset) -> dict[str, str]:
    served = [item for item in items if item.error is None]
    prompts = [judges.Prompt(*verdicts.judge_messages(item, preset.options)) for item in served]
    answers = judges.ask_all(judge, prompts)
    return {item.id: answer for item, answer in zip(served, answers, strict=True)}


def _label(preset: Preset, result: Mapping[str, Any]) -> str:
    """Return the preset's name, with the embedder and the judge where they are not the official ones."""
    label = preset.name
    embedder, judge = result["embedder"], result["judge"]
    if embedder is not None and not embedder.get("official"):
        label += f"+embedder={embedder['name']}"
    if judge is not None and judge["model"] not in (JUDGE_MODEL, JUDGE_MODEL.split("/")[1]):
        label += f"+judge={judge['model']}"
    return label


# --- tables --------------------------------------------------------------------------------------


def render(result: Mapping[str, Any], groups: bool = False) -> str:
    """Return a result as text for a terminal.

    Parameters
    ----------
    result : mapping
        What `summary.summarise` gave, with `label`.
    groups : bool
        Whether the tables by skill, length and so on are shown.

    Returns
    -------
    str
        Lines without a final newline.
    """
    parts = [
        f"{result['model']} on {_dataset_name(result)}, preset {result['label']} "
        "(per cent; intervals: 95 %, clustered by clip)",
        _category_table(result),
        *_remarks(result),
    ]
    if groups:
        parts += [_group_table(name, result["groups"][name]) for name in summary.GROUPINGS]
    return "\n\n".join(part for part in parts if part)


def _dataset_name(result: Mapping[str, Any]) -> str:
    name = result["dataset"]["name"]
    return "MMAU-Pro" if name == "full" else "the embedded sample (says nothing about MMAU-Pro)"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _interval(entry: Mapping[str, Any]) -> str:
    if entry.get("low") is None:
        return "-"
    return f"{entry['low']:.1f} to {entry['high']:.1f}"


def _category_table(result: Mapping[str, Any]) -> str:
    second = bool(result["unanswerable"]) and "without_unanswerable" in result["overall"]
    header = ["category", "items", "score", "interval"]
    header += ["answerable"] if second else []
    header += ["unparsed", "ambiguous", "empty", "errored", "unscored"]
    rows: list[list[object]] = []
    for name in CATEGORY_BY_VALUE:
        entry = result["categories"].get(name)
        if entry is None:
            rows.append([name, 0, "missing", *["-"] * (len(header) - 3)])
            continue
        unscored = entry["items"] - entry["scored"]
        score = _number(entry["score"]) if entry["score"] is not None else "unscored"
        row: list[object] = [name, entry["items"], score, _interval(entry)]
        row += [_number(entry.get("without_unanswerable"))] if second else []
        row += [entry["counts"].get(key) for key in ("unparsed", "ambiguous", "empty", "errored")]
        rows.append([*row, unscored or None])
    overall = result["overall"]
    name = "overall" if overall["complete"] else "overall (partial)"
    row = [name, overall["items"], _number(overall["weighted"]), _interval(overall)]
    row += [_number(overall.get("without_unanswerable"))] if second else []
    rows.append([*row, *["-"] * (len(header) - len(row))])
    rows.append(
        ["macro mean", overall["items"], _number(overall["macro"]), *["-"] * (len(header) - 3)]
    )
    return text.table(header, rows)


def _remarks(result: Mapping[str, Any]) -> list[str]:
    remarks = []
    if not result["overall"]["complete"]:
        remarks.append(f"The overall rows are {result['overall']['label']}.")
    if result["unanswerable"]:
        remarks.append(
            f"{len(result['unanswerable'])} multiple-choice item(s) cannot be answered (the "
            "reference is not among the choices): listed in the file."
        )
    if result["errored"]:
        remarks.append(
            f"{len(result['errored'])} item(s) were not served and count as wrong: listed in the file."
        )
    if result["embedder"] is not None:
        remarks.append(f"Multiple choice: {result['embedder']['label']}.")
    if "instruction" in result:
        remarks.append(_instruction_remark(result["instruction"]))
    if "open" in result:
        remarks.append(_open_remark(result["open"], result["judge"]))
    return [text.paragraph(remark) for remark in remarks]


def _instruction_remark(entry: Mapping[str, Any]) -> str:
    parts = [
        f"Instruction following: official {_number(entry['official'])}, strict "
        f"{_number(entry['strict'])} (counted: {entry['counted']}); the readings differ on "
        f"{len(entry['differences'])} item(s)."
    ]
    parts += [
        f"{change['id']} {change['identifier']}: official {_passed(change['official'])}, strict "
        f"{_passed(change['strict'])}."
        for change in entry["differences"][:3]
    ]
    if len(entry["differences"]) > 3:
        parts.append("The others are in the file.")
    if entry["substitute"]:
        parts.append(f"{len(entry['substitute'])} item(s): {entry['substitute_fix']}.")
    return " ".join(parts)


def _passed(value: bool | None) -> str:
    return {True: "passed", False: "failed", None: "not checked"}[value]


def _open_remark(entry: Mapping[str, Any], judge: Mapping[str, Any] | None) -> str:
    if judge is None or not entry["judged"]:
        return (
            f"Open questions: unscored ({entry['items']:,}), no judge was asked. Add --judge hf:NAME "
            "or --judge http://… --judge-model NAME."
        )
    return (
        f"Open questions, judged by {judge['model']} ({entry['judged']} of {entry['items']}): "
        f"official {_number(entry['official'])} (OVERALL / 5, floor 20), strict "
        f"{_number(entry['strict'])} (readable verdicts only, floor 20), without floor "
        f"{_number(entry['floorless'])} (0 to 100); counted: {entry['counted']}. "
        f"{entry['unreadable']} verdict(s) unreadable, {entry['judge_errors']} call(s) failed, "
        f"{entry['errored']} item(s) errored."
    )


def _group_table(name: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    rows = [
        [key, entry["items"], entry["scored"], _number(entry["score"]), _interval(entry)]
        for key, entry in sorted(entries.items())
    ]
    return text.table([GROUP_TITLES[name], "items", "scored", "score", "interval"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command by itself.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; `sys.argv[1:]` by default.

    Returns
    -------
    int
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="mmaupro score")
    add_score_arguments(parser)
    return run_score(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
