"""Every switch on which implementations of MMAU-Pro's scoring differ, and named sets of them.

Nothing that changes a number is left implicit: a result names its preset and holds all options.
`OPTIONS` says what each option means, `PRESETS` what each preset sets, `resolve` puts overrides on
top, and `explain` and `options_table` show it to people.

Sources of the presets:

* ``official``: ``evaluate_mmau_pro_comprehensive.py`` of the MMAU-Pro authors (2025-09-25).
* ``nemo-skills``: the evaluation of MMAU-Pro in NVIDIA NeMo-Skills, read in 2026.
* ``strict``: this package's own reading, where nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType

from mmaupro_ext.errors import ConfigError


@dataclass(frozen=True)
class Option:
    """One switch.

    Attributes
    ----------
    name : str
        Field of `Options`.
    question : str
        What the switch decides.
    values : mapping of str to str
        Each value and what it means.
    """

    name: str
    question: str
    values: Mapping[str, str]


OPTIONS: tuple[Option, ...] = (
    Option(
        "closed",
        "How is the choice found that a multiple-choice reply means?",
        {
            "strict": "it must be stated by letter or text; otherwise the reply is wrong",
            "embedding": "the choice whose text is nearest to the reply; every reply gets one",
        },
    ),
    Option(
        "gold",
        "When is a choice the reference answer?",
        {
            "exact": "equal character by character",
            "casefold": "equal but for case and surrounding space",
            "normalised": "equal but for case, white space, Unicode form and closing punctuation",
        },
    ),
    Option(
        "empty",
        "What is an empty reply to a multiple-choice or instruction question?",
        {
            "official": "a reply like any other: embedding gives it a choice, rules may pass",
            "wrong": "wrong",
        },
    ),
    Option(
        "letters",
        "Embedding only: is a stated letter replaced by the text of its choice first?",
        {"off": "no: a bare letter gets some choice, near chance", "on": "yes"},
    ),
    Option(
        "unanswerable",
        "Multiple-choice items whose reference answer is among no choices",
        {
            "keep": "count as wrong",
            "exclude": "count as wrong, and a second number leaves them out",
        },
    ),
    Option(
        "instruction",
        "Which reading of the instruction checks counts?",
        {"official": "the released rules, bug for bug", "strict": "the repaired rules"},
    ),
    Option(
        "sentences",
        "Official instruction checks: what splits sentences?",
        {"nltk": "NLTK's punkt", "regex": "runs of . ! ?"},
    ),
    Option(
        "repeat_prompt",
        "What must a Repeat Prompt reply begin with?",
        {
            "question": "the question column",
            "transcription": "the transcription column, else the question",
            "nothing": "nothing, so that every reply passes the official check",
        },
    ),
    Option(
        "strip",
        "Is white space around a reply dropped before the embedding and the official checks?",
        {"off": "no", "on": "yes"},
    ),
    Option(
        "judge_prompt",
        "What is the judge asked?",
        {
            "script": "the prompt of the released script",
            "paper": "the opening printed in the paper, then as in the script",
            "nemo": "the prompt of NeMo-Skills, without system message",
        },
    ),
    Option(
        "judge_decoding",
        "How does the judge write?",
        {"sampled": "at temperature 0.1", "greedy": "the likeliest token"},
    ),
    Option(
        "judge_parser",
        "How are the numbers read out of the judge's text?",
        {
            "official": "whole numbers for the criteria, any size",
            "decimals": "decimals as well, any size",
            "strict": "markdown tolerated; only 1 to 5, stated once",
        },
    ),
    Option(
        "judge_failure",
        "What is a verdict that cannot be read?",
        {
            "3": "a criterion that is not found is 3; a missing overall is the criteria's mean",
            "unscored": "without an overall the item is unscored and counted as such",
            "0": "without an overall the item scores 0",
        },
    ),
    Option(
        "judge_rewrite",
        "Is an OVERALL of exactly 3 replaced by the mean of the four criteria?",
        {"on": "yes", "off": "no"},
    ),
    Option(
        "open_score",
        "Which number of the verdict is an open item's score?",
        {
            "overall": "OVERALL / 5: 20 % is the worst",
            "correctness": "CORRECTNESS / 5: 20 % is the worst",
            "floorless": "(OVERALL - 1) / 4: from 0 to 100 %",
        },
    ),
)


@dataclass(frozen=True)
class Options:
    """The value of each switch; what the values mean is in `OPTIONS`."""

    closed: str
    gold: str
    empty: str
    letters: str
    unanswerable: str
    instruction: str
    sentences: str
    repeat_prompt: str
    strip: str
    judge_prompt: str
    judge_decoding: str
    judge_parser: str
    judge_failure: str
    judge_rewrite: str
    open_score: str


@dataclass(frozen=True)
class Preset:
    """A named set of options.

    Attributes
    ----------
    name : str
        The base's name, with ``+option=value`` for each override in the order of `OPTIONS`.
    base : str
        Key of `PRESETS`.
    overrides : mapping of str to str
        Options that differ from the base.
    options : Options
        What applies.
    about : str
        What the base is for, in a sentence.
    """

    name: str
    base: str
    overrides: Mapping[str, str]
    options: Options
    about: str

    def as_dict(self) -> dict[str, object]:
        """Return what a result says of its preset, as plain JSON."""
        return {
            "name": self.name,
            "base": self.base,
            "overrides": dict(self.overrides),
            "options": asdict(self.options),
        }


_OFFICIAL = Options(
    closed="embedding",
    gold="exact",
    empty="official",
    letters="off",
    unanswerable="keep",
    instruction="official",
    sentences="nltk",
    repeat_prompt="question",
    strip="off",
    judge_prompt="script",
    judge_decoding="sampled",
    judge_parser="official",
    judge_failure="3",
    judge_rewrite="on",
    open_score="overall",
)
_STRICT = replace(
    _OFFICIAL,
    closed="strict",
    gold="normalised",
    empty="wrong",
    unanswerable="exclude",
    instruction="strict",
    judge_decoding="greedy",
    judge_parser="strict",
    judge_failure="unscored",
    judge_rewrite="off",
    open_score="floorless",
)
_NEMO = replace(
    _OFFICIAL,
    gold="casefold",
    empty="wrong",
    sentences="regex",
    repeat_prompt="nothing",
    strip="on",
    judge_prompt="nemo",
    judge_decoding="greedy",
    judge_parser="decimals",
    judge_rewrite="off",
    open_score="correctness",
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        name: Preset(name, name, MappingProxyType({}), options, about)
        for name, options, about in (
            (
                "official",
                _OFFICIAL,
                "The released evaluator to the bug: the number that compares with the paper.",
            ),
            (
                "strict",
                _STRICT,
                "Nothing is guessed and nothing is given away: the number that is true.",
            ),
            (
                "nemo-skills",
                _NEMO,
                "As NVIDIA NeMo-Skills scores MMAU-Pro: compares with numbers reported from it.",
            ),
        )
    }
)

OPTION_BY_NAME: Mapping[str, Option] = MappingProxyType({option.name: option for option in OPTIONS})


def resolve(name: str, overrides: Sequence[str] = ()) -> Preset:
    """Return a preset with options overridden.

    Parameters
    ----------
    name : str
        Key of `PRESETS`; or a name as this function gives it, "strict+gold=casefold".
    overrides : sequence of str
        Each "option=value".

    Returns
    -------
    Preset
        An override that says what the base says anyway leaves no trace in the name.

    Raises
    ------
    ConfigError
        When the preset, an option or a value does not exist, or an option is given twice.
    """
    base_name, *in_name = name.split("+")
    base = PRESETS.get(base_name)
    if base is None:
        raise ConfigError(f"no preset is called {base_name!r}. Presets: {', '.join(PRESETS)}")
    wanted: dict[str, str] = {}
    for text in (*in_name, *overrides):
        option, separator, value = text.partition("=")
        option = option.strip().replace("-", "_")
        value = value.strip()
        if not separator or option not in OPTION_BY_NAME:
            raise ConfigError(
                f"{text!r} sets no option. Write OPTION=VALUE with one of: "
                f"{', '.join(OPTION_BY_NAME)}"
            )
        if value not in OPTION_BY_NAME[option].values:
            raise ConfigError(
                f"option {option} cannot be {value!r}. Values: "
                f"{', '.join(OPTION_BY_NAME[option].values)}"
            )
        if wanted.get(option, value) != value:
            raise ConfigError(f"option {option} is set twice, to {wanted[option]} and {value}")
        wanted[option] = value
    defaults = asdict(base.options)
    changed = {
        option.name: wanted[option.name]
        for option in OPTIONS
        if option.name in wanted and wanted[option.name] != defaults[option.name]
    }
    full_name = "+".join([base_name, *(f"{key}={value}" for key, value in changed.items())])
    options = replace(base.options, **changed)
    return Preset(full_name, base_name, MappingProxyType(changed), options, base.about)


def explain(preset: Preset) -> str:
    """Say what a preset sets, option by option, for a terminal.

    Parameters
    ----------
    preset : Preset
        What `resolve` gave.

    Returns
    -------
    str
        Lines without a final newline.
    """
    lines = [f"{preset.name}: {preset.about}", ""]
    for option in OPTIONS:
        value = getattr(preset.options, option.name)
        mark = "  (override)" if option.name in preset.overrides else ""
        lines.append(f"{option.name}={value}{mark}")
        lines.append(f"    {option.question}")
        lines += [
            f"    {'>' if name == value else ' '} {name}: {meaning}"
            for name, meaning in option.values.items()
        ]
    return "\n".join(lines)


def options_table() -> str:
    """Return the options and what each preset sets, as a Markdown table for the documentation."""
    lines = [
        "| option | decides | values | " + " | ".join(f"`{name}`" for name in PRESETS) + " |",
        "|---|---|---|" + "---|" * len(PRESETS),
    ]
    for option in OPTIONS:
        values = "; ".join(f"`{name}`: {meaning}" for name, meaning in option.values.items())
        settings = (f"`{getattr(preset.options, option.name)}`" for preset in PRESETS.values())
        row = (f"`{option.name}`", option.question, values, *settings)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


# --- the reference answer ------------------------------------------------------------------------


def gold_indexes(choices: Sequence[str], answer: str | None, gold: str) -> frozenset[int]:
    """Return which choices are the reference answer.

    Parameters
    ----------
    choices : sequence of str
        The item's choices.
    answer : str or None
        The item's reference answer.
    gold : str
        Value of the option of that name. With "normalised", a choice that is equal as it stands
        takes precedence, so that choices which differ by case alone stay apart.

    Returns
    -------
    frozenset of int
        Positions; empty when the item cannot be answered.
    """
    if answer is None:
        return frozenset()
    if gold == "casefold":
        return frozenset(
            i
            for i, choice in enumerate(choices)
            if choice.strip().lower() == answer.strip().lower()
        )
    exact = frozenset(i for i, choice in enumerate(choices) if choice == answer)
    if gold == "exact" or exact:
        return exact
    wanted = _normalised(answer)
    return frozenset(
        i for i, choice in enumerate(choices) if wanted and _normalised(choice) == wanted
    )


def _normalised(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return re.sub(r"[\s.,;:!?]+$", "", folded) or folded


assert [option.name for option in OPTIONS] == [field.name for field in fields(Options)]
