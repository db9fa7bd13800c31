"""From the documents of a category to those that are asked under a condition (`conditions`).

Pure: what must be known of files comes in as an argument. An item that cannot be asked is counted, with the
reason.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.data.conditions import FIRST_S, NONE_OF_THESE, SEED, known, seeded
from mmaupro_ext.data.schema import Doc
from mmaupro_ext.errors import ConfigError

PARTS = (2, 3, 4, 5)
MOST_ORDERED = 4  # choices up to which all orders are asked
DRAWN_ORDERS = 20  # orders drawn beyond that, besides the rotations

Sounds = Callable[[Doc], Sequence[tuple[float, int]]]
Rephrasings = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass
class Asked:
    """What is asked under a condition.

    Attributes
    ----------
    docs : list of dict
        Documents, each with its `condition`; all variants of an item stand together.
    not_asked : Counter of str
        Why items cannot be asked -> how many.
    """

    docs: list[Doc] = field(default_factory=list)
    not_asked: Counter[str] = field(default_factory=Counter)


def ask(
    docs: Sequence[Doc],
    name: str,
    sounds: Sounds | None = None,
    rephrasings: Rephrasings | None = None,
    most: int | None = None,
) -> Asked:
    """Return the documents of a category as they are asked under a condition.

    Parameters
    ----------
    docs : sequence of dict
        All documents of the category, as released; none is changed.
    name : str
        Key of `CONDITIONS`.
    sounds : callable, optional
        Document -> seconds and channels of each of its clips, for "mono" and "first-30s" alone.
    rephrasings : mapping, optional
        Item id -> its rephrasings, as `read_rephrasings` gives them, for "rephrase" alone.
    most : int, optional
        How many items are asked, from the first; others may still lend their clips.

    Returns
    -------
    Asked

    Raises
    ------
    ConfigError
        For an unknown condition, or one without what it needs.
    """
    known(name)
    if name == "rephrase" and rephrasings is None:
        raise ConfigError(
            "the condition rephrase needs the file of rephrasings: --rephrasings FILE, or as metadata "
            "rephrasings=FILE"
        )
    partners = _partners(docs) if name == "swap" else {}
    found = Asked()
    for doc in docs[:most]:
        if doc.get("problem"):  # it is reported as errored, as in the full run
            found.docs.append(_under(doc, name))
            continue
        try:
            if name == "swap":
                variants = [_swapped(doc, partners)]
            elif name == "rephrase":
                variants = list(_rephrased(doc, (rephrasings or {}).get(doc["id"], ())))
            elif name in ("mono", "first-30s"):
                assert sounds is not None
                _require_sound(name, sounds(doc))
                variants = [_under(doc, name)]
            else:
                variants = list(_VARIANTS.get(name, _as_it_is)(doc, name))
        except _NotAskedError as reason:
            found.not_asked[str(reason)] += 1
        else:
            found.docs += variants
    return found


class _NotAskedError(Exception):
    """An item that cannot be asked under a condition, with the reason."""


def _under(doc: Doc, name: str, variant: str = "", told: Any = (), **changes: Any) -> Doc:
    """Return a document with changed fields that says what they replace."""
    replaced = {key: doc[key] for key in changes if key in doc}
    condition = {"name": name, "variant": variant, "seed": SEED, **dict(told)}
    return {**doc, **changes, "condition": {**condition, "replaced": replaced}}


def _as_it_is(doc: Doc, name: str) -> Iterator[Doc]:
    yield _under(doc, name)


def _without_audio(doc: Doc, name: str) -> Iterator[Doc]:
    yield _under(doc, name, audio_path=[], audio_sha256=[])


def _require_sound(name: str, clips: Sequence[tuple[float, int]]) -> None:
    if name == "mono" and not any(channels == 2 for _, channels in clips):
        raise _NotAskedError("no clip of two channels")
    if name == "first-30s" and all(seconds <= FIRST_S for seconds, _ in clips):
        raise _NotAskedError("no clip longer than 30 s: it is the same item")


def _fragments(doc: Doc, name: str) -> Iterator[Doc]:
    for count in PARTS:
        for part in range(1, count + 1):
            yield _under(doc, name, f"{part}/{count}", {"part": part, "of": count})


def _gold(doc: Doc) -> set[int]:
    """Return the places of the right choice, however it is written."""
    if benchmarks.of(doc).by_value[doc["category"]].kind != "closed":
        raise _NotAskedError("no choices with a known answer")
    answer = str(doc["answer"])
    exact = {n for n, choice in enumerate(doc["choices"]) if choice == answer}
    plain = answer.strip().casefold()
    found = exact or {n for n, one in enumerate(doc["choices"]) if one.strip().casefold() == plain}
    if not found:
        raise _NotAskedError("the answer is not among the choices")
    return found


def _permuted(doc: Doc, name: str) -> Iterator[Doc]:
    _gold(doc)
    choices = doc["choices"]
    real = [n for n, choice in enumerate(choices) if choice]  # "" holds the place of a letter
    for order in orders(len(real), str(doc["id"])):
        places = iter(real[n] for n in order)
        shown = [next(places) if choice else n for n, choice in enumerate(choices)]
        variant = ("" if len(shown) <= 10 else "-").join(map(str, shown))
        yield _under(doc, name, variant, {"order": shown}, choices=[choices[n] for n in shown])


def orders(count: int, item: str) -> list[tuple[int, ...]]:
    """Return the orders in which the choices of an item are shown, the released one first.

    Parameters
    ----------
    count : int
        Of choices.
    item : str
        Its id, which seeds the drawn ones.

    Returns
    -------
    list of tuple of int
        All orders up to four choices; else the rotations, which have each choice in each place once, and 20
        drawn ones.
    """
    released = tuple(range(count))
    if count <= MOST_ORDERED:
        return list(itertools.permutations(released))
    found = [released[n:] + released[:n] for n in range(count)]
    for draw in itertools.count():
        drawn = tuple(sorted(released, key=lambda n: seeded(item, "order", draw, n)))
        if drawn not in found:
            found.append(drawn)
        if len(found) == count + DRAWN_ORDERS:
            return found
    raise AssertionError  # the draws have no end


def _absent(doc: Doc, name: str) -> Iterator[Doc]:
    gold = _gold(doc)
    if any("none of the" in choice.casefold() for choice in doc["choices"]):
        raise _NotAskedError("a choice says already that none is right")
    left = [n for n, choice in enumerate(doc["choices"]) if n not in gold and choice]
    if not left:
        raise _NotAskedError("no wrong choice")
    shown = [*(doc["choices"][n] for n in left), NONE_OF_THESE]
    order = {"order": [*left, len(doc["choices"])]}
    yield _under(doc, name, "", order, choices=shown, answer=NONE_OF_THESE)


_VARIANTS: dict[str, Callable[[Doc, str], Iterator[Doc]]] = {
    "none": _without_audio,
    "text-backbone": _without_audio,
    "fragments": _fragments,
    "permute": _permuted,
    "absent": _absent,
}


# ---- other clips ---------------------------------------------------------------------------------

_Clips = tuple[str, ...]


def _clips_of(doc: Doc) -> _Clips:
    """Return what tells the clips of a document from others: their digests, else their paths."""
    digests = doc.get("audio_sha256") or [None] * len(doc["audio_path"])
    pairs = zip(digests, doc["audio_path"], strict=True)
    return tuple(digest or path for digest, path in pairs)


def _partners(docs: Sequence[Doc]) -> dict[_Clips, Doc]:
    """Return for the clips of each item another item's document, whose clips are given in their place.

    Clips of one number stand in a circle, in an order drawn by the id of the first item that has them; each
    gives way to the next with which it shares none.
    """
    circles: dict[int, dict[_Clips, Doc]] = {}
    for doc in docs:
        if not doc.get("problem"):
            circles.setdefault(len(doc["audio_path"]), {}).setdefault(_clips_of(doc), doc)
    partners = {}
    for circle in circles.values():
        around = sorted(circle.items(), key=lambda entry: seeded(entry[1]["id"], "swap"))
        for place, (clips, _) in enumerate(around):
            for other, lender in (*around[place + 1 :], *around[:place]):
                if not set(clips) & set(other):
                    partners[clips] = lender
                    break
    return partners


def _swapped(doc: Doc, partners: Mapping[_Clips, Doc]) -> Doc:
    lender = partners.get(_clips_of(doc))
    if lender is None:
        raise _NotAskedError("no other clips of the category, as many")
    digests = lender.get("audio_sha256") or [None] * len(lender["audio_path"])
    changes = {"audio_path": [*lender["audio_path"]], "audio_sha256": [*digests]}
    return _under(doc, "swap", "", {"clips_of": lender["id"]}, **changes)


# ---- other words ---------------------------------------------------------------------------------


def read_rephrasings(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Read a file of rephrasings: a JSON object a line, with `id`, and `question`, `choices` or both.

    Several lines of one item are its variants, in their order. Choices stand in the released order, as many.

    Returns
    -------
    dict of str to list of dict
        Item id -> what takes the place of its question or choices.

    Raises
    ------
    ConfigError
        When the file cannot be read, or a line is not of this form.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the rephrasings cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: not JSON ({error})") from error
        if not _is_rephrasing(entry):
            raise ConfigError(
                f'{path}, line {number}: give {{"id": …, "question": …, "choices": […]}}, question or '
                "choices or both, as texts that are not empty"
            )
        changes = {key: entry[key] for key in ("question", "choices") if key in entry}
        found.setdefault(entry["id"], []).append(changes)
    if not found:
        raise ConfigError(f"{path}: the file has no rephrasing")
    return found


def _is_rephrasing(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return False
    question, choices = entry.get("question"), entry.get("choices")
    texts = [*([question] if "question" in entry else []), *(choices or [])]
    return bool(texts) and all(isinstance(text, str) and text.strip() for text in texts)


def _rephrased(doc: Doc, entries: Sequence[Mapping[str, Any]]) -> Iterator[Doc]:
    if not entries:
        raise _NotAskedError("the file has no rephrasing of it")
    for number, entry in enumerate(entries, start=1):
        changes = dict(entry)
        if "choices" in entry:
            if len(entry["choices"]) != len(doc["choices"]):
                raise ConfigError(
                    f"item {doc['id']}: its rephrasing {number} has {len(entry['choices'])} choices, the "
                    f"item {len(doc['choices'])}. Give as many, in the released order"
                )
            changes["answer"] = entry["choices"][min(_gold(doc))]
        yield _under(doc, "rephrase", str(number), **changes)
