"""Conditions: what is changed in an item before a model is asked, to see what its answer rests on.

Pure on documents. One that is asked under a condition says so in its key `condition`: the condition's name,
the variant where an item is asked in several (an order, a fragment), the seed, and, as `replaced`, the
fields of the released document in place of which others stand; `original` gives the released document back.
What is asked, kept and scored is made from documents, so an ablated answer can never pass for a real one.
Documents without that key are as released.

What is done to samples is `audio.altering`; `sound_of` says what of it a clip's reference asks for. All draws
depend on ids alone, so that a rerun on another machine asks exactly the same.

Sources: none, text-backbone and fragments, Foo et al. (arXiv 2604.24401); noise of the clip's level, MMAU-Pro
(arXiv 2508.13992); noise of sigma 0.01, arXiv 2510.00626; permute, López et al. (arXiv 2510.04584) and Lin
et al. (arXiv 2510.00628); repeat as control, Facet-Probe (arXiv 2606.26079); absent, AQUA-Bench.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.data.schema import Doc
from mmaupro_ext.errors import ConfigError

FULL = "full"
"""What answers to documents without a condition are called beside others."""

SEED = 0
"""Of all draws; documents carry it."""

FIRST_S = 30.0
NONE_OF_THESE = "None of these"


@dataclass(frozen=True)
class Condition:
    """One condition, in words.

    Attributes
    ----------
    name : str
        As users, documents and folders have it.
    changes : str
        What is changed, in one clause.
    tells : str
        What its answers tell, in one clause.
    several : bool
        Whether an item is asked more than once, in variants.
    some : bool
        Whether there are items that it cannot change, and so leaves out.
    """

    name: str
    changes: str
    tells: str
    several: bool = False
    some: bool = False


CONDITIONS: dict[str, Condition] = {
    one.name: one
    for one in (
        Condition(
            "none",
            "no audio, and no place for it in the prompt",
            "what question and choices give away",
        ),
        Condition(
            "text-backbone",
            "the prompt of none, for a text model that the user names",
            "what a language model knows that never heard anything",
        ),
        Condition(
            "silence",
            "zeros, as long as each clip",
            "whether sound without content still changes answers",
        ),
        Condition(
            "noise",
            "white Gaussian noise of each clip's length and level",
            "the same, with something to hear",
        ),
        Condition(
            "noise-0.01",
            "white Gaussian noise of sigma 0.01, as long as each clip",
            "the same at one faint level",
        ),
        Condition(
            "swap",
            "the clips of another item of the category, as many",
            "whether the answer follows the clip",
            some=True,
        ),
        Condition(
            "fragments",
            "2 to 5 equal parts of each clip, each part alone",
            "whether a part of the clip suffices",
            several=True,
        ),
        Condition(
            "permute",
            "the choices in other orders: all up to four, else rotations and 20 drawn",
            "how much the answer depends on where the right choice stands",
            several=True,
            some=True,
        ),
        Condition(
            "rephrase",
            "question or choices in words from the user's file",
            "whether the answer survives other words",
            several=True,
            some=True,
        ),
        Condition(
            "repeat",
            "nothing: the same is asked once more",
            "the noise floor: how many answers change by themselves",
        ),
        Condition(
            "mono",
            "left and right of stereo clips replaced by their mean",
            "whether the answer comes from where sounds are",
            some=True,
        ),
        Condition(
            "first-30s",
            "the first 30 seconds of each clip",
            "whether what comes later is heard",
            some=True,
        ),
        Condition("reversed", "each clip backwards", "whether the order in time matters"),
        Condition(
            "absent",
            f"the right choice taken out, {NONE_OF_THESE!r} added",
            "whether the model abstains where nothing fits",
            some=True,
        ),
    )
}

_SIGMA = {"noise": None, "noise-0.01": 0.01}


def known(name: str) -> Condition:
    """Return a condition by its name.

    Raises
    ------
    ConfigError
        When there is none of this name.
    """
    if name not in CONDITIONS:
        raise ConfigError(f"there is no condition {name!r}. There are: {', '.join(CONDITIONS)}")
    return CONDITIONS[name]


def name_of(doc: Mapping[str, Any]) -> str:
    """Return under which condition a document is asked; "full" where it is as released."""
    return str(doc["condition"]["name"]) if "condition" in doc else FULL


def warning(name: str) -> str:
    """Return the clause that stands beside every number under a condition."""
    return f"under the condition {name} ({CONDITIONS[name].changes}): no score of the benchmark"


def variant_of(doc: Mapping[str, Any]) -> str:
    """Return which variant of a condition a document is; "" where there is one alone."""
    return str(doc["condition"]["variant"]) if "condition" in doc else ""


def original(doc: Mapping[str, Any]) -> Doc:
    """Return the document as it was released, whatever it is asked under.

    Examples
    --------
    >>> original({"id": "a", "question": "?", "condition": {"replaced": {"question": "What?"}}})
    {'id': 'a', 'question': 'What?'}
    """
    kept = {key: value for key, value in doc.items() if key != "condition"}
    return {**kept, **doc.get("condition", {}).get("replaced", {})}


def order_of(doc: Mapping[str, Any]) -> tuple[int, ...]:
    """Return for each choice as shown its place in the released order; for one of ours their number."""
    told = doc.get("condition", {}).get("order")
    return tuple(range(len(doc["choices"]))) if told is None else tuple(told)


def seeded(*told: object) -> bytes:
    """Return 32 bytes that depend on what is told and on the seed alone: on every machine the same."""
    return hashlib.sha256(":".join(map(str, (SEED, *told))).encode()).digest()


def digest_with(digest: str, doc: Mapping[str, Any]) -> str:
    """Return a digest of a prompt that also tells under which condition it was asked."""
    if "condition" not in doc:
        return digest
    told = {key: value for key, value in doc["condition"].items() if key != "replaced"}
    return hashlib.sha256(json.dumps([digest, told], sort_keys=True).encode()).hexdigest()


# ---- what is done to samples ---------------------------------------------------------------------


def alters_sound(name: str) -> bool:
    """Return whether a condition gives other samples than those of some clip: "swap" gives another clip."""
    return name in (*_SIGMA, "silence", "mono", "reversed", "fragments", "first-30s")


def sound_of(doc: Mapping[str, Any], position: int) -> dict[str, Any] | None:
    """Return what the reference to a clip of a document says beside path and digest.

    Parameters
    ----------
    doc : mapping
        A document, under a condition or not.
    position : int
        Of the clip, from 0.

    Returns
    -------
    dict or None
        As `audio.altering` reads it; None where the clip is given as it is. "repeat" changes nothing, and
        tells a journal that the answer to the first asking is not wanted.
    """
    condition = doc.get("condition") or {}
    name = condition.get("name")
    if name == "repeat" or name in ("silence", "mono", "reversed"):
        return {"name": name}
    if name in _SIGMA:
        seed = int.from_bytes(seeded(doc["id"], "noise", position)[:4], "big")
        sigma = _SIGMA[name]
        return {"name": "noise", "seed": seed, **({} if sigma is None else {"sigma": sigma})}
    if name == "fragments":
        return {"name": "fragment", "part": condition["part"], "of": condition["of"]}
    return {"name": "first", "seconds": FIRST_S} if name == "first-30s" else None
