"""The numbers that the paper and others state about MMAU-Pro, beside those that are found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmaupro_ext.benchmarks import Benchmark
from mmaupro_ext.data import manifest
from mmaupro_ext.data.items import real_choices
from mmaupro_ext.data.schema import CATEGORIES, FACTS, Confidence, Doc


@dataclass(frozen=True)
class FactCheck:
    """A number that is stated about the dataset, beside the one found.

    Parameters
    ----------
    name : str
        Short name.
    statement : str
        What is counted.
    expected : int or None
        None when nothing is stated (the sample has counts of its own).
    found : int
        The number in this copy.
    confidence : {"verified", "reported", "inferred"}
        As in `schema.Fact`.
    """

    name: str
    statement: str
    expected: int | None
    found: int
    confidence: Confidence

    @property
    def verdict(self) -> str:
        """Return "as stated", "DIFFERS" or "-"."""
        if self.expected is None:
            return "-"
        return "as stated" if self.expected == self.found else "DIFFERS"


def check_facts(docs: list[Doc], dataset: str | None = "MMAU-Pro") -> list[FactCheck]:
    """Count what is stated about MMAU-Pro.

    Parameters
    ----------
    docs : list of dict
        All rows.
    dataset : str or None
        "MMAU-Pro" compares with the stated numbers; None only counts.

    Returns
    -------
    list of FactCheck
        Rows, the twelve categories, choices, answers, clips, lengths.
    """
    categories = Counter(doc["category"] for doc in docs)
    choices = Counter(len(doc["choices"]) for doc in docs)
    slots = Counter(len(doc["audio_path"]) for doc in docs)
    paths = {clip for doc in docs for clip in doc["audio_path"]}
    sure = FACTS["counts"].confidence
    facts: list[tuple[str, str, int, int, Confidence]] = [
        ("rows", "rows", sum(c.expected_count for c in CATEGORIES.values()), len(docs), "verified"),
        *(
            (f"rows:{c.slug}", f"  {c.value}", c.expected_count, categories[c.value], sure)
            for c in CATEGORIES.values()
        ),
        ("no-choices", "rows without choices", 215, choices[0], "reported"),
        ("one-choice", "rows with one choice", 497, choices[1], "reported"),
        (
            "null-answers",
            "rows without an answer",
            87,
            sum(doc["answer"] is None for doc in docs),
            "reported",
        ),
        (
            "several-clips",
            "rows with several clips",
            456,
            sum(count for clip_count, count in slots.items() if clip_count > 1),
            "verified",
        ),
        ("two-clips", "  two clips", 430, slots[2], "verified"),
        ("three-clips", "  three clips", 26, slots[3], "verified"),
        ("clips", "different clips named by rows", 5787, len(paths), "reported"),
        (
            "long-rows",
            "rows labelled long or ultra-long",
            1219,
            sum(doc["length_type"] in ("long", "ultra-long") for doc in docs),
            "reported",
        ),
    ]
    return [
        FactCheck(name, statement, expected if dataset else None, found, confidence)
        for name, statement, expected, found, confidence in facts
    ]


_CHOICES = {"choices": lambda doc: doc["choices"], "real choices": real_choices}


def described_facts(benchmark: Benchmark, docs: list[Doc], sample: bool) -> list[FactCheck]:
    """Count what a description states of its rows.

    Parameters
    ----------
    benchmark : Benchmark
        Another than MMAU-Pro.
    docs : list of dict
        All rows.
    sample : bool
        True only counts: nobody states numbers of a generated sample.

    Returns
    -------
    list of FactCheck
        Rows, categories, the counts of the description, clips.
    """
    rows: list[tuple[str, str, int | None, int]] = [("rows", "rows", benchmark.items, len(docs))]
    of_category = Counter(doc["category"] for doc in docs)
    for one in benchmark.categories:
        stated = one.expected_count or None  # 0: nobody states it
        rows.append((f"rows:{one.slug}", f"  {one.value}", stated, of_category[one.value]))
    for name, counts in benchmark.counts.items():
        if name in _CHOICES:
            values = Counter(str(len(_CHOICES[name](doc))) for doc in docs)
        else:
            values = Counter(doc["attributes"].get(name) for doc in docs)
        for value, count in counts.items():
            words = f"rows with {value} {name}" if name in _CHOICES else f"{name}: {value}"
            rows.append((f"{name}:{value}", words, count, values[value]))
    clips = {clip for doc in docs for clip in doc["audio_path"]}
    rows.append(("clips", "different clips named by rows", None, len(clips)))
    return [
        FactCheck(name, words, None if sample else stated, found, "reported")
        for name, words, stated, found in rows
    ]


def sample_facts(facts: list[FactCheck], root: Path) -> list[FactCheck]:
    """Compare the sample with what its own manifest says; nobody states other counts of it."""
    own = manifest.read_manifest(root / manifest.MANIFEST) or {"files": {}}
    stated = {"rows": own.get("items"), "clips": len(own["files"])}
    return [
        FactCheck(fact.name, fact.statement, stated.get(fact.name), fact.found, "verified")
        for fact in facts
    ]
