"""Items under conditions: what is changed in each, the same everywhere, and never taken for real."""

from __future__ import annotations

import copy
import itertools
import json

import numpy as np
import pytest

from mmaupro_ext import data
from mmaupro_ext.audio.altering import altered
from mmaupro_ext.audio.decoding import AudioReader
from mmaupro_ext.data import ablating, conditions
from mmaupro_ext.data.asking import NothingToAskError
from mmaupro_ext.data.questions import prompt
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.models.blocks import Placer
from mmaupro_ext.models.engines.engine import EngineLM
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.journal_lines import digest_of_request

NAMES = [name for name in conditions.CONDITIONS if name != "rephrase"]
RATE = 16000


def docs_of(category: str) -> list[dict]:
    return data.load_category(category, sample=True)


def asked(category: str, name: str, **metadata) -> list[dict]:
    return data.asked(docs_of(category), {"condition": name, **metadata})[0]


def test_without_a_condition_documents_are_what_they_were():
    docs = docs_of("sound")
    found, not_asked = data.asked(docs, {"pretrained": "nano"})
    assert found == docs
    assert not not_asked
    assert all("condition" not in clip for doc in found for clip in data.audio_references(doc))


@pytest.mark.parametrize("name", NAMES)
def test_the_released_document_comes_back_and_is_not_changed(name):
    for category in ("sound", "multi", "spatial_audio"):
        released = docs_of(category)
        before = copy.deepcopy(released)
        try:
            found, _ = data.asked(released, {"condition": name})
        except NothingToAskError:
            continue
        by_id = {doc["id"]: doc for doc in before}
        assert released == before
        assert all(conditions.original(doc) == by_id[doc["id"]] for doc in found)
        assert all(conditions.name_of(doc) == name for doc in found)
        assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("name", [name for name in NAMES if name != "first-30s"])
def test_every_request_differs_from_the_full_one(name):
    """Where the same words are asked in the same order, only the reference can tell a journal so."""
    doc = docs_of("spatial_audio")[0]
    found = [one for one in asked("spatial_audio", name) if one["id"] == doc["id"]]
    if name == "permute":  # the released order is one of all: that answer may be shared
        assert conditions.order_of(found[0]) == (0, 1)
        del found[0]

    def request(one):
        arguments = (prompt(one), {"until": []}, {"audio": data.audio_references(one)})
        return digest_of_request("generate_until", arguments)

    requests = [request(one) for one in (doc, *found)]
    assert len(set(requests)) == len(requests) > 1


def test_what_cannot_be_asked_is_counted_with_its_reason():
    def reasons(category, name):
        try:
            return data.asked(docs_of(category), {"condition": name})[1]
        except NothingToAskError as error:
            return error.not_asked

    assert reasons("sound", "mono") == {"no clip of two channels": 13}
    assert reasons("spatial_audio", "mono") == {}
    assert reasons("sound", "first-30s") == {"no clip longer than 30 s: it is the same item": 12}
    assert reasons("open", "permute") == {"no choices with a known answer": 7}
    assert reasons("open", "absent") == {"no choices with a known answer": 7}
    assert reasons("multi", "swap") == {"no other clips of the category, as many": 1}
    broken = {**docs_of("sound")[0], "answer": "no such choice"}
    assert ablating.ask([broken], "permute").not_asked == {"the answer is not among the choices": 1}
    told = {**docs_of("sound")[0], "choices": ["none of the above", docs_of("sound")[0]["answer"]]}
    assert ablating.ask([told], "absent").not_asked == {
        "a choice says already that none is right": 1
    }


def test_a_row_that_cannot_be_asked_stays_errored_once():
    broken = {**docs_of("sound")[0], "problem": "no question"}
    for name in ("permute", "fragments", "swap"):
        (doc,) = ablating.ask([broken], name).docs
        assert doc["problem"] == "no question"


def test_none_has_neither_audio_nor_its_place():
    (doc, *_) = asked("sound", "none")
    text = prompt(doc)
    assert data.audio_references(doc) == []
    assert not text[0].isspace()
    assert "<audio>" not in text
    assert prompt(conditions.original(doc)) == f"<audio>\n{text}"


def test_swapped_clips_are_those_of_another_item_whatever_the_order_of_rows():
    docs = [doc for name in ("sound", "multi") for doc in docs_of(name)]
    found = {doc["id"]: doc for doc in ablating.ask(docs, "swap").docs}
    for doc in found.values():
        mine = conditions.original(doc)
        assert len(doc["audio_path"]) == len(mine["audio_path"])
        assert not set(doc["audio_sha256"]) & set(mine["audio_sha256"])
    again = {doc["id"]: doc for doc in ablating.ask(docs[::-1], "swap").docs}
    shared = [doc["audio_sha256"] for doc in docs]
    assert len({tuple(clips) for clips in shared}) == len(
        shared
    )  # no clips twice: nothing depends on order
    assert found == again
    assert ablating.ask(docs, "swap", most=3).docs == list(found.values())[:3]


def test_several_questions_on_a_recording_are_never_given_it_back():
    first, second, third = docs_of("sound")[:3]
    same = {**second, "audio_path": first["audio_path"], "audio_sha256": first["audio_sha256"]}
    for doc in ablating.ask([first, same, third], "swap").docs:
        mine = conditions.original(doc)["audio_sha256"]
        assert (
            doc["audio_sha256"]
            == (first if mine == third["audio_sha256"] else third)["audio_sha256"]
        )


@pytest.mark.parametrize("count", [2, 3, 4, 5, 11])
def test_orders_have_each_choice_in_each_place(count):
    found = ablating.orders(count, "an id")
    assert found[0] == tuple(range(count))
    assert len(set(found)) == len(found)
    if count <= 4:
        assert set(found) == set(itertools.permutations(range(count)))
    else:
        assert len(found) == count + ablating.DRAWN_ORDERS
        for place in range(count):
            assert {order[place] for order in found[:count]} == set(range(count))
        assert found[count:] != ablating.orders(count, "another id")[count:]


def test_places_that_only_hold_a_letter_stay_where_they_are():
    doc = {**docs_of("sound")[0], "choices": ["two", "", "five"], "answer": "five"}
    shown = [one["choices"] for one in ablating.ask([doc], "permute").docs]
    assert shown == [["two", "", "five"], ["five", "", "two"]]
    assert ablating.ask([doc], "absent").docs[0]["choices"] == ["two", conditions.NONE_OF_THESE]


def test_the_right_choice_is_absent_and_abstaining_is_right():
    for doc in asked("sound", "absent"):
        mine = conditions.original(doc)
        assert doc["answer"] == doc["choices"][-1] == conditions.NONE_OF_THESE
        assert set(doc["choices"][:-1]) == set(mine["choices"]) - {mine["answer"]}
        assert [
            (*mine["choices"], conditions.NONE_OF_THESE)[n] for n in conditions.order_of(doc)
        ] == doc["choices"]


# ---- other words ---------------------------------------------------------------------------------


def rephrasings(folder, *lines):
    file = folder / "words.jsonl"
    file.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return str(file)


def test_rephrasings_are_asked_and_the_answer_is_that_of_the_same_place(tmp_path):
    first, second = docs_of("sound")[:2]
    words = [f"choice {n}" for n in range(len(first["choices"]))]
    file = rephrasings(
        tmp_path,
        {"id": first["id"], "question": "Say it otherwise?"},
        {"id": first["id"], "choices": words},
    )
    one, two = asked("sound", "rephrase", rephrasings=file)
    assert [one["question"], two["question"]] == ["Say it otherwise?", first["question"]]
    assert two["answer"] == words[first["choices"].index(first["answer"])]
    assert [conditions.variant_of(doc) for doc in (one, two)] == ["1", "2"]
    with pytest.raises(NothingToAskError, match=r"no rephrasing of it \(1\)"):
        data.asked([second], {"condition": "rephrase", "rephrasings": file})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"id": "a", "question": "x"}', "{"], "line 2: not JSON"),
        (['{"id": "a"}'], "line 1: give"),
        (['{"id": "a", "question": " "}'], "line 1: give"),
        ([""], "no rephrasing"),
    ],
)
def test_a_bad_line_of_rephrasings_is_named(tmp_path, lines, words):
    with pytest.raises(ConfigError, match=words):
        ablating.read_rephrasings(rephrasings(tmp_path, *lines))


def test_what_a_condition_lacks_is_named(tmp_path):
    (doc,) = docs_of("sound")[:1]
    with pytest.raises(ConfigError, match="--rephrasings FILE"):
        ablating.ask([doc], "rephrase")
    with pytest.raises(ConfigError, match="no condition 'nose'"):
        data.asked([doc], {"condition": "nose"})
    file = rephrasings(tmp_path, {"id": doc["id"], "choices": ["one"]})
    with pytest.raises(ConfigError, match="Give as many"):
        asked("sound", "rephrase", rephrasings=file)


# ---- sounds --------------------------------------------------------------------------------------


def made(name, samples, **told):
    return altered(np.asarray(samples, np.float32), RATE, {"name": name, **told})


def test_what_is_done_to_samples():
    stereo = np.random.default_rng(0).normal(0, [[0.3], [0.1]], (2, RATE)).astype(np.float32)
    assert not made("silence", stereo).any()
    assert made("silence", stereo).shape == stereo.shape
    assert (made("reversed", made("reversed", stereo)) == stereo).all()
    assert (made("repeat", stereo) == stereo).all()
    left, right = made("mono", stereo)
    # A float32 mean of two float32 numbers.
    np.testing.assert_allclose(left, stereo.mean(axis=0), atol=1e-7)
    assert (left == right).all()
    assert made("first", stereo, seconds=0.5).shape == (2, RATE // 2)


def test_noise_has_the_level_asked_for_and_comes_back_by_its_seed():
    stereo = np.random.default_rng(0).normal(0, [[0.3], [0.1]], (2, RATE)).astype(np.float32)
    level = np.sqrt((stereo.astype(float) ** 2).mean())
    noise = made("noise", stereo, seed=3)
    # The spread of a level drawn from 16,000 samples is 0.6 %; five of them.
    np.testing.assert_allclose(noise.std(axis=1), level, rtol=0.03)
    np.testing.assert_allclose(made("noise", stereo, seed=3, sigma=0.01).std(), 0.01, rtol=0.03)
    assert (made("noise", stereo, seed=3) == noise).all()
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05  # five times 1 / sqrt(16,000) is 0.04
    assert not (made("noise", stereo, seed=4) == noise).any()
    # MT19937 with the polar method, as frozen by numpy: the same on another machine.
    np.testing.assert_allclose(
        made("noise", np.zeros(3), seed=0, sigma=1.0), [1.7640524, 0.4001572, 0.978738], rtol=1e-6
    )


@pytest.mark.parametrize("length", [10, 11, 16001])
def test_fragments_are_the_clip_once(length):
    samples = np.arange(length, dtype=np.float32)
    for of in ablating.PARTS:
        parts = [made("fragment", samples, part=part, of=of) for part in range(1, of + 1)]
        assert (np.concatenate(parts) == samples).all()
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_clip_too_short_to_cut_and_an_unknown_way_are_errors_of_the_item():
    with pytest.raises(AudioError, match="no fragment 1 of 5"):
        made("fragment", [0.5], part=1, of=5)
    with pytest.raises(AudioError, match="'louder'"):
        made("louder", [0.5])


def test_a_reader_decodes_a_clip_once_for_all_conditions():
    reader = AudioReader(RATE, "native", 1 << 24, "apart")
    (doc,) = docs_of("spatial_audio")[:1]
    real = reader.read(data.audio_references(doc)[0])
    before = real.samples.copy()
    for name in ("silence", "noise", "noise-0.01", "fragments", "mono", "reversed", "repeat"):
        for one in asked("spatial_audio", name):
            if one["id"] != doc["id"]:
                continue
            (reference,) = data.audio_references(one)
            clip = reader.read(reference)
            assert name == "repeat" or not np.array_equal(clip.samples, before)
            # Of a header's seconds, a fragment is cut at whole samples.
            assert reader.stated(reference)[0] == pytest.approx(clip.info.seconds, abs=2 / RATE)
            assert clip.info.seconds == pytest.approx(clip.samples.shape[1] / RATE, abs=2 / RATE)
    assert reader.decoded == 1
    assert np.array_equal(reader.read(data.audio_references(doc)[0]).samples, before)


class Engine(EngineLM):
    def identity_fields(self):
        return {}

    def generate_until(self, requests):
        raise NotImplementedError

    def loglikelihood(self, requests):
        raise NotImplementedError


def test_servers_get_the_altered_sound_and_not_the_file():
    engine = Engine("a server")
    for name, sent in (("repeat", True), ("noise", False), (None, True)):
        doc = docs_of("sound")[0] if name is None else asked("sound", name)[0]
        question = Question(prompt(doc), {"audio": data.audio_references(doc)})
        (sound,) = engine.prepare(question, untouched=True).sounds
        assert (sound.file is not None) == sent  # what is asked once more is sent as before
        record = engine.prepare(question).heard["clips"][0]
        assert record.get("condition", "").startswith(name or "")
        assert ("condition" in record) == (name is not None)


def test_records_say_what_was_done_and_count_what_was_given():
    doc = next(doc for doc in asked("sound", "fragments") if conditions.variant_of(doc) == "2/5")
    engine = Engine("a server")
    assert isinstance(engine.placer, Placer)
    question = Question(prompt(doc), {"audio": data.audio_references(doc)})
    (clip,) = engine.prepare(question).heard["clips"]
    whole = engine.reader.read(data.audio_references(docs_of("sound")[0])[0]).info.seconds
    assert clip["condition"] == "fragment 2 of 5"
    assert clip["seconds_in_file"] == clip["seconds_heard"] == pytest.approx(whole / 5, abs=1e-3)
