"""Write the replies to a benchmark whose answers are withheld as the file that its authors score."""

from __future__ import annotations

import json

from mmaupro_ext.data.conditions import FULL, warning
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.scorer import compared_text


def submission(run: Run, preset: Preset) -> tuple[str, int]:
    """Return the file of a run.

    Parameters
    ----------
    run : Run
        The replies to a benchmark with `hidden` answers, all of them.
    preset : Preset
        Says what of a reply is given: under ``official`` all of it, under ``strict`` its final answer, with
        ``letters=on`` the text of a stated letter's choice in its place.

    Returns
    -------
    content : str
        JSON: the released rows in the order of the run, with each reply under the names that the authors'
        README and their script give it.
    errored : int
        Items that were not served; their reply is "", so that they count as wrong.

    Raises
    ------
    ScoringError
        When the benchmark's answers are known, or the replies are ablated.
    """
    row_of = run.benchmark.submission_row
    if row_of is None:
        raise ScoringError(
            f"the answers of {run.benchmark.title} are known: there is nothing to submit. Leave out "
            "--submission"
        )
    if run.condition != FULL:
        raise ScoringError(f"replies {warning(run.condition)}. Submit those of a run without one")
    rows, errored = [], 0
    for item in run.items:
        served = not item.doc.get("problem") and parse_error(item.reply) is None
        errored += not served
        text = compared_text(item.doc, item.reply, preset.options, item.finish) if served else ""
        rows.append(row_of(item.doc, text or ""))
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n", errored
