"""The numbers that the paper and others state about MMAU-Pro, beside those that are found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmaupro_ext.data import manifest
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


def sample_facts(facts: list[FactCheck], root: Path) -> list[FactCheck]:
    """Compare the sample with what its own manifest says; nobody states other counts of it."""
    own = manifest.read_manifest(root / manifest.MANIFEST) or {"files": {}}
    stated = {"rows": own.get("items"), "clips": len(own["files"])}
    return [
        FactCheck(fact.name, fact.statement, stated.get(fact.name), fact.found, "verified")
        for fact in facts
    ]
