"""Audio that is longer than a window: what each policy gives, and that nothing goes unnoticed."""

import dataclasses

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mmaupro_ext import heard
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.windows import NO_LIMIT, LongAudio, Recording, share_out


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global HFAudioLM
    from mmaupro_ext.models.hf.model import HFAudioLM


QWEN = FAMILIES["qwen2_audio"].writing
WHOLE = dataclasses.replace(QWEN, whole_s=None)
RATE = 16_000


def plan(policy, *seconds, writing=QWEN, budget=NO_LIMIT, tracks=1, **options):
    recordings = [Recording(round(length * RATE), RATE, tracks) for length in seconds]
    return LongAudio(policy, **options).plan(recordings, writing, budget)


def spans_s(recording):
    return [(start / RATE, end / RATE) for start, end in recording.spans]


# ---- policies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["auto", "native", "windows", "uniform", "truncate"])
@pytest.mark.parametrize("seconds", [0.01, 29.99, 30.0])
def test_a_clip_that_fits_is_given_whole_by_every_policy(policy, seconds):
    (entry,) = plan(policy, seconds)
    assert spans_s(entry) == [(0.0, seconds)]
    assert entry.is_whole


@pytest.mark.parametrize("policy", ["auto", "windows", "uniform"])
def test_a_long_clip_is_given_whole_in_blocks(policy):
    (entry,) = plan(policy, 67.5)
    assert spans_s(entry) == [(0, 22.5), (22.5, 45), (45, 67.5)]
    assert entry.is_whole


@pytest.mark.parametrize("policy", ["auto", "windows", "uniform"])
@pytest.mark.parametrize("seconds", [30.01, 30.02, 30.05])
def test_no_window_is_a_sliver(policy, seconds):
    # 30-second excerpts and the padding of MP3 files give such lengths
    (entry,) = plan(policy, seconds)
    assert spans_s(entry) == [(0, seconds / 2), (seconds / 2, seconds)]


def test_the_models_own_way_refuses_what_it_would_cut():
    with pytest.raises(ItemError, match="45.0 s is longer than the 30 s") as refusal:
        plan("native", 10.0, 45.0)
    assert "long_audio=windows" in refusal.value.fix


@pytest.mark.parametrize("policy", ["auto", "native"])
def test_a_model_without_a_limit_hears_one_block(policy):
    (entry,) = plan(policy, 600.0, writing=WHOLE)
    assert spans_s(entry) == [(0, 600)]


def test_auto_makes_blocks_as_long_as_the_model_takes():
    (entry,) = plan("auto", 1350.0, writing=dataclasses.replace(QWEN, whole_s=600.0))
    assert spans_s(entry) == [(0, 450), (450, 900), (900, 1350)]


def test_windows_may_be_asked_of_a_model_without_a_limit():
    (entry,) = plan("windows", 24.0, writing=WHOLE, window_s=10.0)
    assert spans_s(entry) == [(0, 8), (8, 16), (16, 24)]


def test_truncating_keeps_the_first_window_and_is_not_whole():
    (entry,) = plan("truncate", 610.0, writing=WHOLE)  # no whole number of windows
    assert spans_s(entry) == [(0, 30)]
    assert not entry.is_whole


def test_uniform_spreads_windows_from_beginning_to_end():
    # 30 s take 750 tokens, and 10 beside them
    (entry,) = LongAudio("uniform").plan([Recording(600 * RATE, RATE)], QWEN, 3 * 760 + 5, 10)
    assert spans_s(entry) == [(0, 30), (285, 315), (570, 600)]
    assert not entry.is_whole


def test_one_window_of_a_long_clip_is_the_one_in_the_middle():
    (entry,) = plan("uniform", 600.0, budget=800)
    assert spans_s(entry) == [(285, 315)]


def test_the_users_budget_bounds_the_context():
    (entry,) = plan("uniform", 600.0, budget=NO_LIMIT, max_audio_tokens=1500)
    assert len(entry.spans) == 2


def test_a_budget_that_holds_everything_leaves_nothing_out():
    needed = 3 * 550  # windows of 22 s
    (entry,) = plan("uniform", 66.0, budget=needed)
    assert entry.is_whole
    (entry,) = plan("uniform", 66.0, budget=needed - 1)
    assert not entry.is_whole


def test_every_clip_keeps_a_window_and_long_ones_get_more():
    short, long, medium = plan("uniform", 20.0, 600.0, 90.0, budget=8 * 750)
    assert [len(entry.spans) for entry in (short, long, medium)] == [1, 6, 1]
    assert short.is_whole


def test_a_budget_below_one_window_each_is_refused_with_numbers():
    with pytest.raises(ItemError, match="750 tokens each, and only 1499 are left") as refusal:
        plan("uniform", 40.0, 50.0, budget=1499)
    assert "window_s" in refusal.value.fix


def test_both_channels_are_paid_for():
    (entry,) = plan("uniform", 600.0, budget=5 * 750, tracks=2)
    assert len(entry.spans) == 2
    assert entry.blocks == 4


@given(
    lengths=st.lists(st.integers(1, 40 * RATE), min_size=1, max_size=5),
    windows=st.integers(1, 12),
    window=st.integers(1000, 12 * RATE),
)
def test_uniform_windows_are_in_order_within_the_clip_and_never_overlap(lengths, windows, window):
    writing = dataclasses.replace(QWEN, count_tokens=lambda sizes: [1] * len(sizes))
    recordings = [Recording(length, RATE) for length in lengths]
    policy = LongAudio("uniform", window_s=window / RATE)
    try:
        entries = policy.plan(recordings, writing, windows)
    except ItemError:
        assert windows < len(lengths)
        return
    assert sum(entry.blocks for entry in entries) <= max(windows, len(lengths))
    for entry, length in zip(entries, lengths, strict=True):
        edges = [edge for span in entry.spans for edge in span]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= length
        assert all(0 < end - start <= window for start, end in entry.spans)
        assert entry.is_whole == (entry.heard == length)


@given(st.integers(0, 60), st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_shares_use_what_there_is(windows, needed):
    shares = share_out(windows, needed)
    if windows < len(needed):
        assert shares is None
    else:
        assert all(1 <= share <= need for share, need in zip(shares, needed, strict=True))
        assert sum(shares) == min(windows, sum(needed))


# ---- the whole way -----------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def build(**arguments):
        return HFAudioLM("tiny-random", device="cpu", batch_size=1, **arguments)

    return build


@pytest.fixture
def clip(tmp_path):
    def write(name, seconds, rate=RATE, channels=1):
        noise = np.random.default_rng(len(name)).normal(0, 0.1, (round(seconds * rate), channels))
        soundfile.write(tmp_path / name, noise, rate)
        return str(tmp_path / name)

    return write


def test_the_blocks_are_the_samples_of_their_times(make, clip):
    path = clip("long.wav", 100)
    lm = make(long_audio="uniform", max_audio_tokens=1600, frontend="stock")
    prompt = lm.prepare(Question("<audio>\nWhat?", {"audio": [path]}))
    assert "Audio 1 from 0:00 to 0:30, Audio 2 from 1:10 to 1:40" in prompt.text
    samples, _ = soundfile.read(path, dtype="float32")
    expected = lm.processor.feature_extractor(
        [samples[: 30 * RATE], samples[70 * RATE :]], sampling_rate=RATE, return_tensors="pt"
    )
    np.testing.assert_array_equal(
        prompt.tensors["input_features"].numpy(), expected["input_features"].numpy()
    )


def test_the_record_says_what_was_given_of_each_clip(make, clip):
    question = Question(
        "<audio><audio>\nWhat?",
        {"audio": [clip("long.wav", 100, channels=2), clip("rate.wav", 2, rate=44_100)]},
    )
    record = make(long_audio="truncate").prepare(question).heard
    assert record["seconds_in_files"] == 102.0
    assert record["seconds_heard"] == 32.0
    assert record["windows"] == 2
    assert record["audio_tokens"] == 750 + 50
    assert record["sampling_rate"] == RATE
    assert [record[key] for key in ("long_audio", "multi_audio", "channels")] == [
        "truncate",
        "list",
        "mono",
    ]
    long, other = record["clips"]
    assert (long["seconds_in_file"], long["seconds_heard"]) == (100.0, 30.0)
    assert (long["channels_in_file"], long["channels_heard"]) == (2, 1)
    assert (other["sampling_rate_in_file"], other["seconds_heard"]) == (44_100, 2.0)
    assert heard.is_shortened(record)


def test_whole_clips_of_any_rate_are_never_called_shortened(make, clip):
    for number, (rate, seconds) in enumerate([(44_100, 1.00001), (8000, 0.3333), (11_025, 45.678)]):
        question = Question(
            "<audio>\nWhat?", {"audio": [clip(f"{number}.wav", seconds, rate=rate)]}
        )
        record = make().prepare(question).heard
        assert not heard.is_shortened(record)
        assert record["seconds_heard"] == record["seconds_in_files"]


def test_joined_clips_are_heard_in_order_with_silence_between(make, clip):
    paths = [clip("a.wav", 1), clip("bb.wav", 2), clip("ccc.wav", 3)]
    lm = make(multi_audio="concat", frontend="stock")
    prompt = lm.prepare(Question("<audio>\n<audio><audio>\nWhich?", {"audio": paths}))
    assert "3 recordings are joined in their order, with 2 seconds of silence" in prompt.text
    assert prompt.blocks == [1]
    a, b, c = (soundfile.read(path, dtype="float32")[0] for path in paths)
    silence = np.zeros(2 * RATE, np.float32)
    expected = lm.processor.feature_extractor(
        np.concatenate([a, silence, b, silence, c]), sampling_rate=RATE, return_tensors="pt"
    )
    np.testing.assert_array_equal(
        prompt.tensors["input_features"].numpy(), expected["input_features"].numpy()
    )
    assert [entry["seconds_heard"] for entry in prompt.heard["clips"]] == [1.0, 2.0, 3.0]
    assert prompt.heard["seconds_heard"] == 6.0
    assert prompt.heard["multi_audio"] == "concat"


def test_joined_clips_that_are_cut_say_which_clip_lost_what(make, clip):
    paths = [clip("a.wav", 20), clip("bb.wav", 20)]
    lm = make(multi_audio="concat", long_audio="truncate")
    record = lm.prepare(Question("<audio><audio>\nWhich?", {"audio": paths})).heard
    assert [entry["seconds_heard"] for entry in record["clips"]] == [20.0, 8.0]


def test_a_mono_clip_joined_to_a_stereo_one_is_in_both_channels(make, clip):
    paths = [clip("a.wav", 1), clip("bb.wav", 1, channels=2)]
    lm = make(multi_audio="concat", channels="stereo-as-two")
    prompt = lm.prepare(Question("<audio><audio>\nWhich?", {"audio": paths}))
    assert prompt.blocks == [2]
    left, right = prompt.tensors["input_features"][:, :, :90]
    np.testing.assert_array_equal(left.numpy(), right.numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"long_audio": "cut"}, "long_audio='cut' is unknown"),
        ({"multi_audio": "mix"}, "multi_audio='mix' is unknown"),
        ({"window_s": 0}, "window_s=0 is not a number greater than 0"),
        ({"max_audio_tokens": "many"}, "max_audio_tokens='many' is not"),
    ],
)
def test_unknown_policies_are_refused_before_anything_is_loaded(make, arguments, message):
    with pytest.raises(ConfigError, match=message):
        make(**arguments)
