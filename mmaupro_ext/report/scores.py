"""The tables of `mmaupro score`: a result as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.data import text

SHARE_COLUMNS = {"letter_only": "letter only", "unparsed": "unparsed", "truncated": "truncated"}
GROUP_TITLES = {
    "perceptual_skills": "perceptual skill",
    "reasoning_skills": "reasoning skill",
    "sub-cat": "sub-category (music: region)",
    "length_type": "length (as labelled)",
    "measured_length": "length (measured)",
    "clips": "clips",
    "choices": "choices",
}


def render(result: Mapping[str, Any], groups: bool = False, audited: bool = False) -> str:
    """Return a result as text for a terminal.

    Parameters
    ----------
    result : mapping
        What `offline.rescoring.score_run` gave.
    groups : bool
        Whether the tables by skill, length and so on are shown.
    audited : bool
        Whether the score without items that are known to be faulty stands beside each score.

    Returns
    -------
    str
        Lines without a final newline.
    """
    clustered = result["overall"]["clustered_by"] or "clip"
    parts = [
        f"{result['model']} on {_dataset_name(result)}, preset {result['label']} "
        f"(per cent of {'the items drawn' if 'part' in result['dataset'] else 'all items'}; intervals: 95 %, "
        f"clustered by {clustered})",
        text.table(*category_table(result, audited)),
        *_remarks(result, audited),
    ]
    if groups:
        parts += [_group_table(name, result["groups"][name]) for name in result["groups"]]
    return "\n\n".join(part for part in parts if part)


def warnings(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each score that is marked; they belong at the very end.

    Parameters
    ----------
    result : mapping
        As for `render`.

    Yields
    ------
    str
    """
    for name, entry in result["categories"].items():
        if entry["marked"]:
            yield (
                f"WARNING: {name}: {entry['items'] - entry['served']:,} of {entry['items']:,} items have "
                f"no answer or no verdict, more than {result['lost_limit']:g} %. They count as wrong: "
                f"{_number(entry['score'])} is not what the model can do "
                f"(over the others: {_number(entry['served_score'])})"
            )


def _dataset_name(result: Mapping[str, Any]) -> str:
    title = BENCHMARKS[result["benchmark"]].title
    if result["dataset"]["name"] == "full":
        return title
    sample = "the embedded sample" if title == "MMAU-Pro" else f"the sample of {title}"
    return f"{sample} (says nothing about {title})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _interval(entry: Mapping[str, Any]) -> str:
    if entry.get("low") is None:
        return f"none: {entry['interval_note']}" if entry.get("interval_note") else "-"
    return f"{entry['low']:.1f} to {entry['high']:.1f}"


def _score(entry: Mapping[str, Any]) -> str:
    if entry["score"] is None:
        return "unscored"
    lost = 100.0 * (entry["items"] - entry["served"]) / entry["items"]
    mark = f" ({lost:.1f} % errored)" if entry["marked"] else ""
    return f"{_number(entry['score'])}{mark}"


def category_table(
    result: Mapping[str, Any], audited: bool = False
) -> tuple[list[str], list[list[object]]]:
    """Return the table of categories as texts: its head, and a row a category, the totals last."""
    overall = result["overall"]
    second = bool(result["unanswerable"])
    header = ["category", "items", "score", "interval", "of served"]
    header += ["answerable"] if second else []
    header += ["audited", "faulty"] if audited else []
    drops = bool(overall["dropped"])
    header += ["dropped"] if drops else []
    reader = result["reader"] is not None
    header += ["with reader", "read by it"] if reader else []
    # Where every reply gets a choice, what share of them names none by its text says what that is worth.
    shares = SHARE_COLUMNS if _is_nearest(result) else {}
    statuses = ["ambiguous", "empty"] if shares else ["unparsed", "ambiguous", "empty"]
    header += [*shares.values(), *statuses, "errored", "unscored"]
    rows: list[list[object]] = []
    for name in BENCHMARKS[result["benchmark"]].by_value:
        entry = result["categories"].get(name)
        if entry is None:
            rows.append([name, 0, "missing", *["-"] * (len(header) - 3)])
            continue
        row: list[object] = [name, _items(result, entry["items"], [name])]
        row += [_score(entry), _interval(entry)]
        row += [_number(entry["served_score"])]
        row += [_number(entry.get("without_unanswerable"))] if second else []
        row += [_number(entry.get("audited")), entry["faulty"]] if audited else []
        row += [_share_of(entry["dropped"], entry["items"])] if drops else []
        row += _read(entry.get("read", {})) if reader else []
        row += _shares(entry, shares)
        row += [entry["counts"].get(key) for key in statuses]
        lost = entry["items"] - entry["served"]
        unscored = entry["items"] - entry["scored"] - entry["dropped"]
        rows.append([*row, lost, unscored or None])
    name = "overall" if overall["complete"] else "overall (partial)"
    weighted = _number(overall["weighted"]) + (" (errored, see below)" if overall["marked"] else "")
    scored = [value for value, entry in result["categories"].items() if entry["score"] is not None]
    items = _items(result, overall["items"], scored)
    row = [name, items, weighted, _interval(overall), _number(overall["served_score"])]
    row += [_number(overall.get("without_unanswerable"))] if second else []
    row += [_number(overall.get("audited")), result["faults"]["items"]] if audited else []
    row += [_share_of(overall["dropped"], result["dataset"]["items"])] if drops else []
    row += [_number(overall["read_score"]), "-"] if reader else []
    row += _shares(result.get("closed", {}), shares)
    rows.append([*row, *["-"] * (len(header) - len(row))])
    row = ["macro mean", items, _number(overall["macro"])]
    row += [_interval(overall["macro_interval"])]
    rows.append([*row, *["-"] * (len(header) - len(row))])
    return header, rows


def _items(result: Mapping[str, Any], count: int, categories: Iterable[str]) -> int | str:
    """Return how many items a row is about; of how many, where a part of them was drawn."""
    part = result["dataset"].get("part")
    if part is None:
        return count
    return f"{count}/{sum(part['sizes'].get(value, 0) for value in categories)}"


def _share_of(count: int, items: int) -> str:
    return f"{100.0 * count / items:.1f} %"


def _is_nearest(result: Mapping[str, Any]) -> bool:
    """Whether multiple choice was scored by the nearest choice, as the released evaluator does."""
    return result["preset"]["options"]["closed"] == "embedding" and "closed" in result


def _shares(entry: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    values = [entry.get("shares", {}).get(name) for name in names]
    return ["-" if value is None else f"{value:.1f} %" for value in values]


def _read(entry: Mapping[str, Any]) -> list[str]:
    share = entry.get("share_read")
    return [_number(entry.get("score")), "-" if share is None else f"{share:.1f} %"]


def _reader_remark(entry: Mapping[str, Any]) -> str:
    read = entry["read"]
    return (
        f"Multiple choice: strict {_number(read['strict_score'])}; {_number(read['score'])} with what "
        f"{entry['model']} reads in replies that are unparsed ({read['share_read']:.1f} % of the replies "
        f"read by it). Of {read['unparsed']:,} unparsed replies it was asked about {read['asked']:,}: "
        f"{read['read']:,} read, {read['none']:,} state no option, {read['unreadable']:,} answer(s) "
        f"unreadable, {read['failed']:,} call(s) failed. All other numbers are strict."
    )


def _comparable_remark(result: Mapping[str, Any]) -> str:
    if not result["comparable"]:
        return f"NOT comparable with the paper's scores: {'; '.join(result['why'])}."
    if result["readings"]:
        return "Asked as the benchmark's authors ask, and scored by their released rule."
    return (
        "Scored as the paper scores, over replies that were asked for as text. The paper's own prompts "
        "are not published, so that they may differ."
    )


def _readings_remark(readings: Mapping[str, Any]) -> str:
    strict, official = readings["strict"], readings["official"]
    dropped = ""
    if official["dropped"]:
        dropped = f" over what it does not drop ({official['dropped_share']:.1f} % of the replies dropped)"
    return f"strict {_number(strict['score'])}; official {_number(official['score'])}{dropped}."


def _positions_remark(positions: Mapping[str, Any]) -> str:
    total = sum(positions["letters"].values())
    shares = ", ".join(f"{k} {100.0 * n / total:.1f} %" for k, n in positions["letters"].items())
    return (
        f"The reference answer stands under {shares}: always answering A would score "
        f"{_number(positions['always_a'])}."
    )


def _faults_remark(faults: Mapping[str, Any]) -> str:
    if not faults["codes"]:
        known = f" (list {faults['version']}: {faults['data']})" if faults["version"] else ""
        return f"Audited: no item of this run is known to be faulty{known}."
    codes = "; ".join(
        f"{code} {entry['items']} ({entry['means']}; {entry['source']})"
        for code, entry in faults["codes"].items()
    )
    return (
        f"Audited: without {faults['items']} item(s) that are known to be faulty by list "
        f"{faults['version']} ({faults['data']}): {codes}."
    )


def _remarks(result: Mapping[str, Any], audited: bool) -> list[str]:
    remarks = []
    if result["readings"]:
        remarks.append(_readings_remark(result["readings"]))
    if result["gold_positions"]:
        remarks.append(_positions_remark(result["gold_positions"]))
    if audited:
        remarks.append(_faults_remark(result["faults"]))
    if not result["overall"]["complete"]:
        remarks.append(f"The overall rows are {result['overall']['label']}.")
    if "part" in result["dataset"]:
        remarks.append(
            "The overall estimates the score of all items of the scored categories, each weighted by its "
            "size; its interval allows for the stopping, those of the categories and the macro mean do not."
        )
    if "recipe" in result:
        remarks.append(
            f"Asked by the recipe {result['recipe']}; where its card says how replies are read, the run's "
            "own table reads them so, and this one by its preset."
        )
    if result["unanswerable"]:
        remarks.append(
            f"{len(result['unanswerable'])} multiple-choice item(s) cannot be answered (the "
            "reference is not among the choices): listed in the file."
        )
    if result["errored"]:
        remarks.append(
            f"{len(result['errored'])} item(s) were not served and count as wrong: listed in the file."
        )
    if result["reader"] is not None:
        remarks.append(_reader_remark(result["reader"]))
    official = result["preset"]["base"] == "official" and result["readings"]
    if _is_nearest(result) or official:
        remarks.append(_comparable_remark(result))
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
    if judge is None:
        return (
            f"Open questions: unscored ({entry['items']:,}), no judge was asked. Add --judge hf:NAME "
            "or --judge http://… --judge-model NAME."
        )
    scales = [
        f"{name} {_number(entry[name])} (of served: {_number(entry[f'{name}_served'])}; {about})"
        for name, about in (
            ("official", "OVERALL / 5, floor 20"),
            ("strict", "readable verdicts only, floor 20"),
            ("floorless", "0 to 100"),
        )
    ]
    return (
        f"Open questions, judged by {judge['model']} ({entry['judged']} of {entry['items']}; counted: "
        f"{entry['counted']}): {', '.join(scales)}. {entry['unreadable']} verdict(s) unreadable, "
        f"{entry['judge_errors']} call(s) failed, {entry['unanswered']} reply(s) without an answer, "
        f"{entry['errored']} item(s) errored."
    )


def _group_table(name: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    rows: list[Sequence[object]] = [
        [key, entry["items"], entry["scored"], _number(entry["score"]), _interval(entry)]
        for key, entry in sorted(entries.items())
    ]
    return text.table([GROUP_TITLES.get(name, name), "items", "scored", "score", "interval"], rows)
