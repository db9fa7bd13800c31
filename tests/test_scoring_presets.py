"""Presets: what they set, and how they are overridden and named."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.scoring import presets
from mmaupro_ext.scoring.presets import PRESETS, resolve

DOCS = Path(__file__).parents[1] / "docs"


# --- names and values ----------------------------------------------------------------------------


def test_every_preset_sets_every_option_to_a_value_that_exists():
    for preset in PRESETS.values():
        settings = asdict(preset.options)
        assert list(settings) == [option.name for option in presets.OPTIONS]
        for option in presets.OPTIONS:
            assert settings[option.name] in option.values


def test_overrides_are_named_in_a_fixed_order_and_idle_ones_are_not():
    preset = resolve("strict", ["judge=official", "gold=casefold", "reply=final"])
    assert preset.name == "strict+gold=casefold+judge=official"
    expected = replace(PRESETS["strict"].options, gold="casefold", judge="official")
    assert preset.options == expected
    assert resolve(preset.name) == preset
    assert resolve("official", ["gold=exact"]).name == "official"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nemo", [], "preset='nemo' is unknown. Use one of: official, strict, nemo-skills"),
        (
            "strict",
            ["gold=fuzzy"],
            "gold='fuzzy' is unknown. Use one of: exact, casefold, normalised",
        ),
        ("strict", ["color=red"], "'color=red' sets no option.*closed"),
        ("strict", ["gold"], "'gold' sets no option"),
        ("strict+gold=exact", ["gold=casefold"], "gold is set twice"),
    ],
)
def test_a_wrong_preset_or_option_says_what_there_is(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve(name, overrides)


def test_explain_marks_what_applies_and_what_was_overridden():
    text = presets.explain(resolve("official", ["gold=casefold"]))
    assert text.startswith("official+gold=casefold: ")
    assert "gold=casefold  (override)" in text
    assert "    > casefold: equal but for case and surrounding space" in text
    assert "\nclosed=embedding\n" in text
    for option in presets.OPTIONS:
        assert f"\n{option.name}=" in text


def test_the_documentation_has_the_table_of_options_as_it_is():
    assert presets.options_table() in (DOCS / "scoring.md").read_text(encoding="utf-8")


def test_every_value_but_the_switches_of_letters_belongs_to_a_preset():
    """An option that no preset sets is a room without a use."""
    for option in presets.OPTIONS:
        used = {
            getattr(presets.resolve(name, benchmark=one.name).options, option.name)
            for one in BENCHMARKS.values()
            for name in one.presets
        }
        assert set(option.values) - used <= {"on", "lettered-token-sets"}, option.name
