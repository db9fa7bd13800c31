"""What a run says when it has ended: where its files are, what was not scored, what to do next."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

UNSCORED = (
    "open-ended replies are kept in the samples; `mmaupro score FOLDER --judge ...` has them judged"
)


def newest_results(output_path: str | Path) -> Path | None:
    """Return the results file written last under `output_path`, or None when there is none.

    Parameters
    ----------
    output_path : str or Path
        What was given to lm_eval as ``--output_path``: a folder, or the name of a JSON file, beside
        which lm_eval writes ``<name>_<time>.json``.

    Returns
    -------
    Path or None
        The file with the latest modification time.
    """
    path = Path(output_path)
    if path.suffix == ".json":
        found = list(path.parent.glob(f"{path.stem}*.json"))
    else:
        found = list(path.glob("**/results_*.json"))
    return max(found, key=lambda file: file.stat().st_mtime_ns, default=None)


def footnotes(results: dict[str, Any]) -> list[str]:
    """Return what must stand below every table of these results.

    Parameters
    ----------
    results : dict
        What lm_eval's `simple_evaluate` returns, or a results file.

    Returns
    -------
    list of str
        The model class's note (random weights, say), how many items were heard in part, and, for a
        partial download, which part it is; empty for results that have nothing to do with this
        package.
    """
    lines = []
    config = results.get("config") or {}
    if config.get("note"):
        lines.append(f"NOTE: {config['note']}")
    heard = config.get("heard") or {}
    if heard.get("shortened_items"):
        policy = (config.get("long_audio") or {}).get("policy")
        lines.append(
            f"HEARD IN PART: {heard['shortened_items']} of {heard['items']} items with audio, by "
            f"long_audio={policy}: {heard_line(heard)}"
        )
    parts = {
        (config.get("metadata") or {}).get("mmaupro_data")
        for task, config in (results.get("configs") or {}).items()
        if task.startswith("mmaupro")
    }
    return lines + [f"PARTIAL DATA: {part}" for part in sorted(part for part in parts if part)]


def summary(results: dict[str, Any]) -> list[str]:
    """Return the sentences that belong below lm_eval's table.

    Parameters
    ----------
    results : dict
        The content of a results file of lm_eval.

    Returns
    -------
    list of str
        What was heard, errored items and unscored categories; empty when there is nothing to say.
    """
    lines = []
    heard = (results.get("config") or {}).get("heard")
    if heard and heard.get("clips"):
        lines.append(f"Heard: {heard_line(heard)}")
    if heard and heard.get("mixed_down_clips"):
        lines.append(
            f"Heard in mono: {heard['mixed_down_clips']} clip(s) have two or more channels, which were "
            "mixed; channels=stereo-as-two gives left and right of two-channel files apart."
        )
    errored = {}
    for task, values in (results.get("results") or {}).items():
        count = round((values.get("errored,none") or 0) * (values.get("sample_len") or 0))
        if "mmaupro" in task and task not in (results.get("groups") or {}) and count:
            errored[task] = count
    if errored:
        lines.append(
            f"ERRORED: {sum(errored.values())} item(s) could not be served and count as wrong: "
            + ", ".join(f"{task} {count}" for task, count in errored.items())
            + ". Their replies in the samples say which file and what to do."
        )
    if any(task.startswith("mmaupro") and task.endswith("_open") for task in results["results"]):
        lines.append(f"Unscored: {UNSCORED}.")
    return lines


def heard_line(heard: dict[str, Any]) -> str:
    """Return one line that compares what the files hold with what the model was given."""
    return (
        f"{heard.get('clips', 0)} clips, {heard.get('seconds_in_files', 0.0):.1f} s in the files, "
        f"{heard.get('seconds_heard', 0.0):.1f} s given to the model in {heard.get('windows', 0)} windows"
    )


def say_where(args: Any) -> None:
    """Print the summary of a finished command-line run.

    Parameters
    ----------
    args : argparse.Namespace
        lm_eval's parsed arguments (`output_path` and `log_samples` are read).

    Raises
    ------
    SystemExit
        With code 1 when an output path was given and no results file is there: lm_eval itself only
        logs a warning when it cannot save.
    """
    if any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK")):
        return
    output_path = getattr(args, "output_path", None)
    if not output_path:
        print(
            "Nothing was saved. Add --output_path results --log_samples to keep scores and replies."
        )
        return
    file = newest_results(output_path)
    if file is None:
        print(
            f"mmaupro-ext: lm_eval left no results file in {output_path}; see the warnings above, then "
            "check that the folder can be written to.",
            file=sys.stderr,
        )
        raise SystemExit(1)
    for line in summary(json.loads(file.read_text(encoding="utf-8"))):
        print(line)
    print(f"Results: {file}")
    if getattr(args, "log_samples", False):
        stamp = file.stem.removeprefix("results_")
        samples = sorted(file.parent.glob(f"samples_*_{stamp}.jsonl"))
        if samples:
            print(f"Samples: {file.parent}{os.sep}samples_*_{stamp}.jsonl ({len(samples)} files)")
    else:
        print("Samples: not kept; add --log_samples to keep every prompt and reply.")
