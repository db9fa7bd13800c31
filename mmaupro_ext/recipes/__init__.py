"""Recipe cards: how the authors of a model asked it, decoded, read its replies, and what they claim.

A card is a YAML file here. It holds only what a source states; "unstated" is a value, and each statement
names its source with place and date. `compat.recipe_runs` has a run follow a card. Scores on MMAU-Pro are
not in cards but in `report.published`, whose rows they name.

=============  =====================================================================================
``name``       the file's name
``model``      in words
``ids``        names by which runs of the model are recognised
``published``  names of its rows in the tables of `report.published`
``benchmarks`` on which the sources used it
``sources``    id -> ``place``, ``date``, ``by`` ("authors" or "others")
``prompt``     "closed", "open" and "instruction" -> "unstated", or ``text``, ``source`` and what else
               `Prompt` has
``system``     "unstated", or ``text`` ("": none is set; null: it is named, its words are not known
               here), ``source``, ``about``
``decoding``   "unstated", or ``settings`` (as lm_eval's --gen_kwargs), ``source``, ``about``
``reading``    "unstated", or ``rule`` (key of `scoring.published_rules.RULES`), ``source``,
               ``about``, ``within`` (the tag whose content alone is read, where it is there)
``items``      "unstated", or ``about`` and ``source``: which items
``audio``      the same: how clips are given
``claims``     list of ``benchmark``, ``part``, ``score`` (per cent), ``how``, ``source``
=============  =====================================================================================
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from mmaupro_ext.categories import CHOICE_LETTERS
from mmaupro_ext.errors import ConfigError

UNSTATED = "unstated"
KINDS = ("closed", "open", "instruction")
"""Of items, as prompts differ by them; items with withheld answers are asked as closed ones."""

RECIPE = "recipe"
"""Key of lm_eval's --metadata, and of documents that are asked by a recipe."""

_FIELDS = frozenset(
    ("name", "model", "ids", "published", "benchmarks", "sources", "prompt", "system", "decoding")
    + ("reading", "items", "audio", "claims")
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\{(question|choices|list|count|ours|own)\}")


@dataclass(frozen=True)
class Source:
    """Where something is stated.

    Attributes
    ----------
    place : str
        Address, or title of a paper.
    date : str
        ISO: of the statement; of code and pages, when they were read.
    by : {"authors", "others"}
        Whether the model's authors say it themselves.
    """

    place: str
    date: str
    by: str


@dataclass(frozen=True)
class Prompt:
    """How items of a kind are asked.

    Attributes
    ----------
    text : str
        With the placeholders ``{question}``; ``{choices}``, each as `choice` says; ``{list}``, the choices as
        Python writes a list; ``{count}`` of them; ``{ours}``, question and choices in this package's layout
        where the source does not say theirs; ``{own}``, the prompt of the benchmark's authors.
    source : str
        Key of the card's sources.
    choice : str
        A choice, with ``{letter}``, ``{lower}`` (the letter in lower case) and ``{text}``.
    between, last : str
        What stands between two choices, and between the last two.
    lowercase : bool
        Whether the whole prompt is in lower case.
    """

    text: str
    source: str
    choice: str = "({letter}) {text}"
    between: str = "\n"
    last: str | None = None
    lowercase: bool = False

    def fill(self, question: str, choices: Sequence[str], ours: str, own: str | None) -> str:
        """Return the prompt of an item.

        Parameters
        ----------
        question, choices
            As released.
        ours : str
            Question and choices in this package's layout.
        own : str or None
            The prompt of the benchmark's authors, None where there is none.
        """
        lines = [
            self.choice.replace("{letter}", letter)
            .replace("{lower}", letter.lower())
            .replace("{text}", text)
            for letter, text in zip(CHOICE_LETTERS, choices, strict=False)
        ]
        joined = self.between.join(lines)
        if self.last is not None and len(lines) > 1:
            joined = self.between.join(lines[:-1]) + self.last + lines[-1]
        values = {
            "question": question,
            "choices": joined,
            "list": str(list(choices)),
            "count": str(len(choices)),
            "ours": ours,
            "own": own or "",
        }
        filled = _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)
        return filled.lower() if self.lowercase else filled


@dataclass(frozen=True)
class Stated:
    """Something that a source states.

    Attributes
    ----------
    source : str
        Key of the card's sources.
    about : str
        In words; "" where the rest says all.
    value : object
        Of "system" the text, of "decoding" the settings, of "reading" the rule; None where it is not known.
    within : str
        Of "reading": the tag whose content is read; "" for the whole reply.
    """

    source: str
    about: str = ""
    value: Any = None
    within: str = ""


@dataclass(frozen=True)
class Claim:
    """A score that somebody published.

    Attributes
    ----------
    benchmark : str
        As in `benchmarks.BENCHMARKS`.
    score : float
        Per cent.
    source : str
        Key of the card's sources.
    part : str
        Of the benchmark, or its version; "" for all of it.
    how : str
        How it came about, as far as stated.
    """

    benchmark: str
    score: float
    source: str
    part: str = ""
    how: str = UNSTATED


@dataclass(frozen=True)
class Recipe:
    """A card; see the module.

    Attributes
    ----------
    prompt : dict of str to Prompt or None
        By kind; None: unstated.
    system, decoding, reading, items, audio : Stated or None
        None: unstated.
    """

    name: str
    model: str
    ids: tuple[str, ...]
    published: tuple[str, ...]
    benchmarks: tuple[str, ...]
    sources: dict[str, Source]
    prompt: dict[str, Prompt | None]
    system: Stated | None
    decoding: Stated | None
    reading: Stated | None
    items: Stated | None
    audio: Stated | None
    claims: tuple[Claim, ...]

    def is_of(self, model: str) -> bool:
        """Whether a run's model, by its name, is the card's."""
        tail = model.rstrip("/").rpartition("/")[2].casefold()
        return any(tail == one.rpartition("/")[2].casefold() for one in self.ids)


def parse(content: Any, name: str) -> Recipe:
    """Return a card.

    Parameters
    ----------
    content : object
        What its YAML holds.
    name : str
        Of its file, without ending.

    Returns
    -------
    Recipe

    Raises
    ------
    ConfigError
        When a field is missing, unknown, or not what it should be, or names a source that is not there.
    """
    try:
        if not isinstance(content, dict) or content.keys() != _FIELDS:
            odd = _FIELDS.symmetric_difference(content if isinstance(content, dict) else ())
            raise ValueError(f"fields missing or unknown: {', '.join(sorted(map(str, odd)))}")
        if content["name"] != name:
            raise ValueError(f"its name is {content['name']!r}")
        recipe = Recipe(
            name=name,
            model=str(content["model"]),
            ids=tuple(map(str, content["ids"])),
            published=tuple(map(str, content["published"])),
            benchmarks=tuple(map(str, content["benchmarks"])),
            sources={
                key: Source(one["place"], str(one["date"]), one["by"])
                for key, one in content["sources"].items()
            },
            prompt={kind: _prompt(content["prompt"][kind]) for kind in KINDS},
            system=_stated(content["system"], "text"),
            decoding=_stated(content["decoding"], "settings"),
            reading=_stated(content["reading"], "rule"),
            items=_stated(content["items"]),
            audio=_stated(content["audio"]),
            claims=tuple(Claim(**{**one, "score": float(one["score"])}) for one in content["claims"]),
        )  # fmt: skip
        _check(recipe)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"the recipe {name} cannot be read: {error}") from error
    return recipe


def _prompt(value: Any) -> Prompt | None:
    return None if value == UNSTATED else Prompt(**value)


def _stated(value: Any, key: str = "") -> Stated | None:
    if value == UNSTATED:
        return None
    fields = dict(value)
    found = fields.pop(key, None) if key else None
    return Stated(**fields, value=found)


def _check(recipe: Recipe) -> None:
    for key, source in recipe.sources.items():
        if not re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", source.date):
            raise ValueError(
                f"the source {key} has the date {source.date!r}, not 2026-01 or 2026-01-31"
            )
        if source.by not in ("authors", "others"):
            raise ValueError(f"the source {key} is by {source.by!r}, neither authors nor others")
    parts: list[Any] = [*recipe.prompt.values(), recipe.system, recipe.decoding, recipe.reading]
    parts += [recipe.items, recipe.audio, *recipe.claims]
    for part in parts:
        if part is not None and part.source not in recipe.sources:
            raise ValueError(f"there is no source {part.source!r}")


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of all cards."""
    cards = (card.name for card in files(__name__).iterdir())
    return tuple(sorted(card.removesuffix(".yaml") for card in cards if card.endswith(".yaml")))


@functools.cache
def known(name: str) -> Recipe:
    """Return a card by its name.

    Raises
    ------
    ConfigError
        When there is none of this name.
    """
    if name not in names():
        raise ConfigError(f"there is no recipe {name!r}. There are: {', '.join(names())}")
    text = (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    import yaml

    return parse(yaml.safe_load(text), name)


def name_of(doc: Mapping[str, Any]) -> str:
    """Return by which recipe a document is asked; "" for none."""
    return str(doc.get(RECIPE) or "")


def read_part(recipe: Recipe, reply: str) -> str:
    """Return what of a reply the recipe reads: the content of its tag where that is there, else all.

    Examples
    --------
    >>> read_part(known("r1-aqa"), "<answer>Rain</answer>")
    'Rain'
    """
    tag = recipe.reading.within if recipe.reading else ""
    found = re.search(rf"<{tag}>(.*?)</{tag}>", reply) if tag else None
    return found[1].strip() if found else reply
