"""Nothing in the text of a closed question tells its answer."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

from mmaupro_ext import data
from synth import questions

SKILLS = sorted(questions.SKILLS)


def texts(seed, per_skill):
    """Return (question, choices, answer) of fresh items without making their sound."""
    made = []
    for number, name in enumerate(SKILLS):
        rng = np.random.default_rng([seed, number])
        for _ in range(per_skill):
            draft, answer, choices = questions.make_text(questions.SKILLS[name], rng)
            made.append((draft.question, choices, answer))
    return made


@pytest.fixture(scope="module")
def sample():
    closed = [slug for slug, category in data.CATEGORIES.items() if category.kind == "closed"]
    docs = [doc for slug in closed for doc in data.load_category(slug, sample=True)]
    return [(doc["question"], tuple(doc["choices"]), doc["answer"]) for doc in docs]


def excess(items, predict):
    """Return how many standard deviations a predictor's hits lie above pure chance."""
    chances = [1.0 / len(choices) for _, choices, _ in items]
    hits = sum(predict(question, choices) == answer for question, choices, answer in items)
    spread = math.sqrt(sum(p * (1.0 - p) for p in chances))
    return (hits - sum(chances)) / spread


class OptionFrequency:
    """Learns from text alone how often an option of a question was right when it was offered."""

    def __init__(self, items):
        self.offered = collections.Counter()
        self.right = collections.Counter()
        self.places = collections.Counter()
        for question, choices, answer in items:
            self.offered.update((question, choice) for choice in choices)
            self.right[question, answer] += 1
            self.places[len(choices), choices.index(answer)] += 1

    def __call__(self, question, choices):
        def share(choice):
            seen = self.offered[question, choice]
            return (self.right[question, choice] + 1.0 / len(choices)) / (seen + 1.0)

        best = max(share(choice) for choice in choices)
        tied = [c for c in choices if math.isclose(share(c), best)]
        return max(tied, key=lambda c: self.places[len(choices), choices.index(c)])


PREDICTORS = {
    "first choice": lambda question, choices: choices[0],
    "last choice": lambda question, choices: choices[-1],
    "second choice": lambda question, choices: choices[1],
    "longest choice": lambda question, choices: max(choices, key=len),
    "shortest choice": lambda question, choices: min(choices, key=len),
    "first in the alphabet": lambda question, choices: min(choices),
    "most words of the question": lambda question, choices: max(
        choices, key=lambda c: sum(word in question.lower() for word in c.lower().split())
    ),
}


@pytest.mark.parametrize("name", SKILLS)
def test_question_and_options_do_not_depend_on_the_answer(name):
    skill = questions.SKILLS[name]
    for seed in range(5):
        seen = set()
        options = len(questions.make_text(skill, np.random.default_rng(seed))[0].options)
        for answer in range(options):
            rng = np.random.default_rng(seed)
            draft, chosen, choices = questions.make_text(skill, rng, answer=answer)
            assert chosen == draft.options[answer]
            assert sorted(choices) == sorted(draft.options)
            seen.add((draft.question, draft.options))
        assert len(seen) == 1


@pytest.mark.parametrize("name", SKILLS)
def test_place_of_the_answer_is_obeyed_and_others_are_shuffled(name):
    skill = questions.SKILLS[name]
    orders = set()
    for seed in range(30):
        draft, chosen, choices = questions.make_text(
            skill, np.random.default_rng(seed), answer=0, position=1
        )
        assert choices[1] == chosen == draft.options[0]
        orders.add(tuple(draft.options.index(choice) for choice in choices))
    assert len(orders) >= min(2, math.factorial(len(draft.options) - 1))


def test_answers_of_fresh_items_fall_evenly_on_options_and_places():
    by_size = collections.defaultdict(collections.Counter)
    for _, choices, answer in texts(11, 150):
        by_size[len(choices)][choices.index(answer)] += 1
    for size, counter in by_size.items():
        expected = sum(counter.values()) / size
        chi2 = sum((counter[place] - expected) ** 2 / expected for place in range(size))
        # Mean size - 1, variance 2 (size - 1); 5 standard deviations.
        assert chi2 < (size - 1) + 5.0 * math.sqrt(2.0 * (size - 1)), (size, counter)


@pytest.mark.parametrize("name", sorted(PREDICTORS))
def test_simple_rules_stay_at_chance_on_the_sample_and_on_fresh_items(sample, name):
    assert abs(excess(texts(12, 60), PREDICTORS[name])) < 4.0
    assert excess(sample, PREDICTORS[name]) < 2.5


def test_a_predictor_trained_on_text_stays_at_chance(sample):
    learned = OptionFrequency(texts(13, 400))
    assert abs(excess(texts(14, 60), learned)) < 4.0
    assert excess(sample, learned) < 2.5


def test_a_predictor_that_sees_the_other_items_of_the_sample_gains_nothing(sample):
    hits = [
        OptionFrequency(sample[:i] + sample[i + 1 :])(question, choices) == answer
        for i, (question, choices, answer) in enumerate(sample)
    ]
    chances = [1.0 / len(choices) for _, choices, _ in sample]
    spread = math.sqrt(sum(p * (1.0 - p) for p in chances))
    assert sum(hits) - sum(chances) < 2.5 * spread


def test_the_measure_finds_a_cue_when_there_is_one(sample):
    leaky = [(q, tuple(sorted(c, key=lambda x: x != a)), a) for q, c, a in sample]
    assert excess(leaky, PREDICTORS["first choice"]) > 5.0
    biased = [(q, c, min(c)) for q, c, _ in texts(15, 50)]
    assert excess(biased, OptionFrequency(biased)) > 20.0


def test_wrong_number_of_rates_is_refused():
    with pytest.raises(ValueError, match="has 2 clips, but 1 rates"):
        questions.make_item(questions.SKILLS["effect"], np.random.default_rng(0), [16000])


@pytest.mark.parametrize("name", [s for s in SKILLS if not s.startswith("last ")])
@pytest.mark.parametrize("sampling_rate", [8000, 22050])
def test_items_are_repeatable_audible_and_within_range(name, sampling_rate):
    skill = questions.SKILLS[name]
    first, second = (
        questions.make_item(skill, np.random.default_rng(4), sampling_rate) for _ in range(2)
    )
    assert first.answer == second.answer
    assert len(first.clips) == skill.clips
    assert (first.category == "spatial_audio") == (first.clips[0].ndim == 2)
    for clip, twin in zip(first.clips, second.clips, strict=True):
        np.testing.assert_array_equal(clip, twin)
        assert 0.03 < np.abs(clip).max() <= 0.9 + 1e-9
        assert clip.shape[-1] / sampling_rate < 12.0
