"""What a model was given to hear, and why its reply ended: both travel with the answer.

lm_eval moves strings and numbers from a model to its scorers, between processes and into its response
cache. `Reply` and `LogProb` are such strings and numbers, and carry the record of their item with them:
pickling keeps it, so that cached answers and answers of other processes still say what was heard.
`annotate` writes both into the samples; the records' totals stand beside the results.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmaupro_ext.replies import parse_error

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # of one item, as plain JSON: made by `models.blocks.record_of`

# Why a reply ended: where the model or a stop string ended it, at the limit of its length, or because
# there is none.
STOP, LENGTH, ERROR = "stop", "length", "error"

# Two lengths in seconds that differ by less are the same: a resampled clip ends within a sample.
SAME_SECONDS = 0.01


class Reply(str):
    """A model's reply with what is known of it.

    Attributes
    ----------
    heard : dict or None
        The record of its item; None for text.
    finish : {"stop", "length", "error"} or None
        Why it ended; None where that is not known.
    """

    heard: Record | None
    finish: str | None

    def __new__(cls, text: str, heard: Record | None = None, finish: str | None = None) -> Reply:
        """Return the reply."""
        reply = super().__new__(cls, text)
        reply.heard, reply.finish = heard, finish
        return reply

    def __reduce__(self) -> Any:
        return Reply, (str(self), self.heard, self.finish)


class LogProb(float):
    """A log-probability (natural logarithm) with the record of its item as `heard`.

    The record is on the number and not on the pair that lm_eval calls a score, because lm_eval makes
    such pairs anew when it collects samples.
    """

    heard: Record | None

    def __new__(cls, value: float, heard: Record | None = None) -> LogProb:
        """Return the log-probability."""
        number = super().__new__(cls, value)
        number.heard = heard
        return number

    def __reduce__(self) -> Any:
        return LogProb, (float(self), self.heard)


def record_of(answers: Any) -> Record | None:
    """Return the record that one of the (nested) answers to an item carries, or None."""
    found = getattr(answers, "heard", None)
    if found is not None or not isinstance(answers, (list, tuple)):
        return found
    return next(filter(None, map(record_of, answers)), None)


def finish_of(answers: Any) -> str | None:
    """Return why the first of the (nested) replies to an item ended, None where that is not known."""
    if isinstance(answers, (list, tuple)):
        return next(filter(None, map(finish_of, answers)), None)
    return getattr(answers, "finish", None)


def annotate(sample: dict[str, Any]) -> None:
    """Write into a sample of lm_eval what was heard (`heard`) and why the reply ended (`finish`)."""
    for name, value in (
        ("heard", record_of(sample["resps"])),
        ("finish", finish_of(sample["resps"])),
    ):
        if value is not None:
            sample[name] = value


class Totals:
    """Records added up.

    Parameters
    ----------
    logs : bool
        Whether the first item that is heard in part is logged.
    """

    def __init__(self, logs: bool = True) -> None:
        self.logs = logs
        self.items = 0
        self.clips = 0
        self.windows = 0
        self.audio_tokens: int | None = 0
        self.seconds_in_files = 0.0
        self.seconds_heard = 0.0
        self.shortened_items = 0
        self.mixed_down_clips = 0
        self.errored_items = 0
        self._files: set[str] = set()

    def add(self, item: Record) -> None:
        """Count one served item."""
        self.items += 1
        self.clips += len(item["clips"])
        self.windows += item["windows"]
        if self.audio_tokens is None or item["audio_tokens"] is None:
            self.audio_tokens = None  # a sum with an unknown part is unknown
        else:
            self.audio_tokens += item["audio_tokens"]
        self.seconds_in_files += item["seconds_in_files"]
        self.seconds_heard += item["seconds_heard"]
        if is_shortened(item):
            if self.logs and not self.shortened_items:
                logger.warning(
                    "audio is left out by long_audio=%s, first of %s: %g of %g s are given. Each sample "
                    "says how much of it was heard",
                    item.get("long_audio"),
                    item["clips"][0]["file"],
                    item["seconds_heard"],
                    item["seconds_in_files"],
                )
            self.shortened_items += 1
        for clip in item["clips"]:
            self.mixed_down_clips += clip["channels_heard"] < clip["channels_in_file"]
            self._files.add(clip["file"])

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the counts; seconds are rounded to milliseconds, unknown audio tokens are None."""
        return {
            "items": self.items,
            "files": len(self._files),
            "clips": self.clips,
            "windows": self.windows,
            "audio_tokens": self.audio_tokens,
            "seconds_in_files": round(self.seconds_in_files, 3),
            "seconds_heard": round(self.seconds_heard, 3),
            "shortened_items": self.shortened_items,
            "mixed_down_clips": self.mixed_down_clips,
            "errored_items": self.errored_items,
        }


def is_shortened(item: Record) -> bool:
    """Tell whether some clip of an item was heard in part."""
    return any(
        clip["seconds_heard"] < clip["seconds_in_file"] - SAME_SECONDS for clip in item["clips"]
    )


def totals_of_samples(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """Add up the records of a run's samples, each item once.

    Parameters
    ----------
    samples : mapping
        Task to samples, as lm_eval gathers them from all processes: with `doc_id` and `resps`.

    Returns
    -------
    dict or None
        `Totals.as_dict`; None where no sample has a record or an error of ours.
    """
    totals = Totals(logs=False)
    for entries in samples.values():
        seen = set()
        for sample in entries:
            if sample["doc_id"] in seen:  # one sample a filter
                continue
            seen.add(sample["doc_id"])
            item = record_of(sample["resps"])
            if item is not None:
                totals.add(item)
            elif is_errored(sample["resps"]):
                totals.errored_items += 1
    return totals.as_dict() if totals.items or totals.errored_items else None


def is_errored(answers: Any) -> bool:
    """Tell whether some answer is an error reply, or a score that is no number."""
    if isinstance(answers, (list, tuple)):
        return any(map(is_errored, answers))
    if isinstance(answers, float):
        return math.isnan(answers)
    return isinstance(answers, str) and parse_error(answers) is not None
