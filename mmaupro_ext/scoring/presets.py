"""The switches on which implementations of scoring differ, and named sets of them.

Nothing that changes a number is left implicit: a result names its preset and holds all options.
`OPTIONS` says what each option means, `PRESETS` what each preset sets, `resolve` puts overrides on
top, and `explain` and `options_table` show it to people.

Sources of the presets:

* ``official``: ``evaluate_mmau_pro_comprehensive.py`` of the MMAU-Pro authors (2025-09-25). Other benchmarks
  have a rule of their own in place of the embedding (`benchmarks.known`, `official_rules`).
* ``nemo-skills``: the evaluation of MMAU-Pro in NVIDIA NeMo-Skills, read in 2026.
* ``strict``: this package's own reading, where nothing is guessed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import require_choice


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
        "reply",
        "What of a reply is scored?",
        {
            "final": "its final answer: no thoughts, no tokens, nothing after its end; none is wrong",
            "raw": "all of it, character by character, also where it is empty",
            "stripped": "all of it without the white space around it; an empty one is wrong",
        },
    ),
    Option(
        "closed",
        "How is the choice found that a multiple-choice reply means?",
        {
            "strict": "it must be stated by letter or text; otherwise the reply is wrong",
            "embedding": "the choice whose text is nearest to the reply; every reply gets one",
            "token-sets": "it has every word of the reference and none that only wrong choices have",
            "lettered-token-sets": "the same where all choices are written with letters, as '(A) Tea'",
            "first-letter": "by its first character if that is A to D, else by its second-last; a reply "
            "with neither is left out",
        },
    ),
    Option(
        "letters",
        "Embedding and token sets: is a stated letter replaced by the text of its choice first?",
        {"off": "no: a bare letter gets some choice, near chance, or is wrong", "on": "yes"},
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
        "instruction",
        "Which reading of the instruction checks counts?",
        {
            "strict": "the repaired rules",
            "official": "the released rules, bug for bug; NLTK splits sentences",
            "nemo": "the released rules; runs of . ! ? split sentences, Repeat Prompt always passes",
        },
    ),
    Option(
        "judge",
        "How is the judge of open questions asked, and what is its verdict worth?",
        {
            "strict": "greedily; numbers from 1 to 5 stated once, else unreadable; (OVERALL - 1) / 4",
            "official": "at temperature 0.1; what is not found is 3, an OVERALL of 3 becomes the mean of "
            "the criteria; OVERALL / 5, so that 20 % is the worst",
            "nemo": "greedily, with the prompt of NeMo-Skills; what is not found is 3; CORRECTNESS / 5",
        },
    ),
)


@dataclass(frozen=True)
class Options:
    """The value of each switch; what the values mean is in `OPTIONS`."""

    reply: str
    closed: str
    letters: str
    gold: str
    instruction: str
    judge: str


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


_STRICT = Options(
    reply="final",
    closed="strict",
    letters="off",
    gold="normalised",
    instruction="strict",
    judge="strict",
)
_OFFICIAL = Options(
    reply="raw",
    closed="embedding",
    letters="off",
    gold="exact",
    instruction="official",
    judge="official",
)
_NEMO = Options(
    reply="stripped",
    closed="embedding",
    letters="off",
    gold="casefold",
    instruction="nemo",
    judge="nemo",
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        name: Preset(name, name, MappingProxyType({}), options, about)
        for name, options, about in (
            (
                "official",
                _OFFICIAL,
                "The released evaluator to the bug; made for replies that name an option by its text.",
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


@functools.lru_cache(maxsize=64)
def of_benchmark(name: str, benchmark: str) -> Preset:
    """Return what `resolve` gives without overrides, once for all."""
    return resolve(name, benchmark=benchmark)


def resolve(name: str, overrides: Sequence[str] = (), benchmark: str = MMAUPRO) -> Preset:
    """Return a preset with options overridden.

    Parameters
    ----------
    name : str
        Key of `PRESETS`; or a name as this function gives it, "strict+gold=casefold".
    overrides : sequence of str
        Each "option=value".
    benchmark : str
        Key of `benchmarks.BENCHMARKS`: whose released rule "official" stands for.

    Returns
    -------
    Preset
        An override that says what the base says anyway leaves no trace in the name.

    Raises
    ------
    ConfigError
        When the preset, an option or a value does not exist or is not defined for the benchmark, or an option
        is given twice.
    """
    base_name, *in_name = name.split("+")
    require_choice("preset", base_name, PRESETS)
    described = BENCHMARKS[benchmark]
    if base_name not in described.presets:
        raise ConfigError(
            f"the preset {base_name} is not defined for {described.title}. Use one of: "
            f"{', '.join(described.presets)}"
        )
    base = PRESETS[base_name]
    if base_name == "official":
        base = replace(base, options=replace(base.options, closed=described.rule))
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
        require_choice(option, value, OPTION_BY_NAME[option].values)
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


assert [option.name for option in OPTIONS] == [field.name for field in fields(Options)]
