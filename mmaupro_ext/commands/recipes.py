"""`mmaupro recipes`: how the authors of a model asked it, and what they claim."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from mmaupro_ext import recipes
from mmaupro_ext.data import text
from mmaupro_ext.recipes import KINDS, UNSTATED, Recipe
from mmaupro_ext.util import visible

DESCRIPTION = """\
List the recipe cards, or show one: prompt, system turn, decoding, reading of the reply, items and
claimed scores, each with its source. What no source states is "unstated".

A run follows a card with --metadata recipe=NAME, as far as it is stated, and refuses a task that the
card does not say how to ask.
"""

EPILOG = """\
examples:
  mmaupro recipes
  mmaupro recipes r1-aqa
  mmaupro run --model hf-audio --model_args pretrained=mispeech/r1-aqa --tasks mmau --metadata recipe=r1-aqa
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro recipes`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("name", nargs="?", metavar="NAME", help="the card to show")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro recipes` and return the exit status."""
    cards = [recipes.known(name) for name in ([args.name] if args.name else recipes.names())]
    if args.json:
        shown = [asdict(card) for card in cards]
        print(json.dumps(shown[0] if args.name else shown, indent=2, ensure_ascii=False))
    elif args.name:
        print(visible("\n".join(_card(cards[0]))))
    else:
        print(visible(_list(cards)))
    return 0


def _list(cards: list[Recipe]) -> str:
    rows = [
        [
            card.name,
            ", ".join(card.benchmarks),
            ", ".join(kind for kind in KINDS if card.prompt[kind]) or UNSTATED,
            _word(card, "system"),
            _word(card, "decoding"),
            str(card.reading.value) if card.reading else UNSTATED,
        ]
        for card in cards
    ]
    return text.table(["recipe", "used on", "prompt", "system", "decoding", "reading"], rows)


def _word(card: Recipe, part: str) -> str:
    found = getattr(card, part)
    if found is None:
        return UNSTATED
    return "none" if found.value == "" else "stated" if found.value else "named"


def _card(card: Recipe) -> Iterator[str]:
    yield f"{card.name}: {card.model} ({', '.join(card.ids)})"
    yield f"used on {', '.join(card.benchmarks)}"
    for kind in KINDS:
        prompt = card.prompt[kind]
        yield ""
        yield f"prompt, {kind}: {UNSTATED if prompt is None else f'[{prompt.source}]'}"
        if prompt is not None:
            yield from (f"    {line}" for line in prompt.text.splitlines())
        if prompt is not None and "{choices}" in prompt.text:
            joined = [prompt.choice, repr(prompt.between)]
            yield f"    each choice {joined[0]!r}, between them {joined[1]}" + (
                f", before the last {prompt.last!r}" if prompt.last is not None else ""
            )
        if prompt is not None and prompt.lowercase:
            yield "    all in lower case"
    yield ""
    for name in ("system", "decoding", "reading", "items", "audio"):
        part = getattr(card, name)
        yield (
            f"{name}: {UNSTATED}"
            if part is None
            else (f"{name}: {'; '.join(_told(name, part))} [{part.source}]")
        )
    yield ""
    for claim in card.claims:
        where = f"{claim.benchmark}{f', {claim.part}' if claim.part else ''}"
        yield f"claim: {claim.score:g} % on {where} [{claim.source}]; how: {claim.how}"
    if card.published:
        from mmaupro_ext.report.claims import published_claims

        for row in published_claims(card):
            yield f"claim: {row.stated} % on mmaupro ({row.source}; how: {row.how})"
    yield ""
    for key, source in card.sources.items():
        by = "its authors" if source.by == "authors" else "others"
        yield f"[{key}] {source.place}, {source.date}, by {by}"


def _told(name: str, part: recipes.Stated) -> Iterator[str]:
    if name == "system":
        yield (
            "none"
            if part.value == ""
            else "not known here"
            if part.value is None
            else repr(part.value)
        )
    elif part.value:
        settings = part.value if isinstance(part.value, dict) else {"rule": part.value}
        yield ", ".join(f"{key}={value}" for key, value in settings.items())
    if part.within:
        yield f"of what stands within <{part.within}>"
    if part.about:
        yield part.about
