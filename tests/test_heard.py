"""What was heard: the record stays with its answer, into the cache, the samples and the results."""

import json
import pickle

import numpy as np
import pytest
import soundfile

from mmaupro_ext import compat, heard
from mmaupro_ext.audio import AudioInfo, Decoded
from mmaupro_ext.heard import LogProb, Reply, Totals
from mmaupro_ext.models.blocks import record_of
from mmaupro_ext.models.windows import Recording
from mmaupro_ext.replies import error_reply
from mmaupro_ext.report import after_run


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global Instance, Resumed, EvaluationTracker, HFAudioLM
    from lm_eval.api.instance import Instance
    from lm_eval.loggers import EvaluationTracker

    from mmaupro_ext.models.hf.model import HFAudioLM
    from mmaupro_ext.models.resuming import Resumed


RATE = 16_000


def record(heard_s=10.0, in_file_s=10.0, channels=(1, 1), file="a.wav"):
    info = AudioInfo(file, 1, 44_100, channels[0], in_file_s, "WAV", "PCM_16")
    clip = Decoded(np.zeros((channels[1], 1), np.float32), info, "native")
    samples = round(heard_s * RATE)
    recording = Recording(round(in_file_s * RATE), RATE, spans=((0, samples),))
    policy = {"long_audio": "auto", "multi_audio": "list", "channels": "mono"}
    return {**record_of([clip], [recording], RATE, policy), "audio_tokens": 250}


# ---- answers -----------------------------------------------------------------------------------


def test_a_sample_says_what_was_heard_and_why_the_reply_ended():
    record = {"seconds_heard": 2.0}
    sample = {"resps": [[Reply("A", record, "length")]]}
    heard.annotate(sample)
    assert (sample["heard"], sample["finish"]) == (record, "length")
    text = {"resps": [["plain"]]}
    heard.annotate(text)
    assert text == {"resps": [["plain"]]}
    again = pickle.loads(pickle.dumps(Reply("A", record, "stop")))
    assert (again, again.heard, again.finish) == ("A", record, "stop")


def test_a_reply_is_a_string_and_a_log_probability_a_number():
    reply, value = Reply("B", record()), LogProb(-1.5, record())
    assert reply == "B"
    assert value == -1.5
    assert json.dumps([reply, (value, True)]) == '["B", [-1.5, true]]'
    assert str(value) == "-1.5"


@pytest.mark.parametrize("answer", [Reply("B", record()), LogProb(-1.5, record())])
def test_pickling_keeps_the_record(answer):
    again = pickle.loads(pickle.dumps(answer))
    assert again == answer
    assert again.heard == record()


def test_the_record_is_found_however_answers_are_nested():
    assert heard.record_of([["text"], [Reply("B", record())]]) == record()
    assert heard.record_of([[(LogProb(-1.5, record()), True)]]) == record()
    assert heard.record_of([["text"], [(0.0, True)], []]) is None


# ---- totals ------------------------------------------------------------------------------------


def test_each_item_counts_once_though_it_has_a_sample_a_filter():
    sample = {"doc_id": 3, "resps": [[Reply("B", record())]]}
    other = {"doc_id": 4, "resps": [[Reply("C", record(heard_s=4.0, file="b.wav"))]]}
    totals = heard.totals_of_samples({"task": [sample, sample, other], "text": []})
    assert totals["items"] == totals["files"] == 2
    assert totals["seconds_in_files"] == 20.0
    assert totals["seconds_heard"] == 14.0
    assert totals["shortened_items"] == 1


def test_the_same_number_in_two_tasks_is_two_items():
    sample = {"doc_id": 0, "resps": [[Reply("B", record())]]}
    assert heard.totals_of_samples({"a": [sample], "b": [sample]})["items"] == 2


def test_errors_are_counted_and_text_is_not():
    samples = [
        {"doc_id": 0, "resps": [[error_reply("no such file")]]},
        {"doc_id": 1, "resps": [["Paris"]]},
        {"doc_id": 2, "resps": [[(float("nan"), False)], [(float("nan"), False)]]},
    ]
    assert heard.totals_of_samples({"task": samples})["errored_items"] == 2
    assert heard.totals_of_samples({"task": samples[1:2]}) is None


@pytest.mark.parametrize(("missing", "shortened"), [(0.0, False), (0.005, False), (0.02, True)])
def test_a_fraction_of_a_sample_is_not_a_cut(missing, shortened):
    assert heard.is_shortened(record(heard_s=10.0 - missing)) is shortened


def test_the_log_says_once_that_audio_is_left_out(caplog):
    totals = Totals()
    totals.add(record())
    assert not caplog.records
    for _ in range(2):
        totals.add(record(heard_s=4.0, file="long.wav"))
    (entry,) = caplog.records
    assert "long_audio=auto, first of long.wav: 4 of 10 s are given" in entry.getMessage()


def test_mixed_channels_are_counted():
    totals = Totals()
    for channels in ((1, 1), (2, 1), (2, 2), (6, 1)):
        totals.add(record(channels=channels))
    assert totals.as_dict()["mixed_down_clips"] == 2


def test_audio_tokens_that_nobody_knows_make_the_sum_unknown():
    totals = Totals()
    totals.add(record())
    assert totals.as_dict()["audio_tokens"] == 250
    totals.add(record() | {"audio_tokens": None})
    totals.add(record())
    assert totals.as_dict()["audio_tokens"] is None
    assert totals.as_dict()["seconds_heard"] == 30.0


# ---- through lm_eval ---------------------------------------------------------------------------


@pytest.fixture
def lm(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return HFAudioLM("tiny-random", device="cpu", batch_size=2, long_audio="truncate")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (45 * RATE, 2)), RATE)
    return {"audio": [{"path": str(path)}]}


def test_a_cached_answer_still_says_what_was_heard(lm, clip, tmp_path):
    generated = Instance("generate_until", {}, ("<audio>\nWhat?", {"until": []}, clip), 0)
    scored = Instance("loglikelihood", {}, ("<audio>\nWhat?", "A", clip), 0)
    first = Resumed(lm, str(tmp_path / "kept"))
    fresh = [*first.generate_until([generated]), *first.loglikelihood([scored])]
    again = Resumed(lm, str(tmp_path / "kept"))
    cached = [*again.generate_until([generated]), *again.loglikelihood([scored])]
    assert cached == fresh
    for answer in fresh + cached:
        item = heard.record_of(answer)
        assert item["seconds_heard"] == 30.0
        assert item["clips"][0]["channels_in_file"] == 2
    assert lm.heard.as_dict()["items"] == 2


def test_samples_and_results_on_disk_hold_the_records(tmp_path):
    compat.install()
    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.model_name_sanitized = "model"
    item = record(heard_s=4.0, channels=(2, 1))
    sample = {
        "doc_id": 0,
        "arguments": [("<audio>", {})],
        "resps": [[Reply("B", item)]],
        "filtered_resps": ["B"],
        "target": "B",
        **dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"), "0"),
    }
    text = {**sample, "doc_id": 1, "resps": [["Paris"]]}
    results = {"config": {"heard": {"items": 0}, "long_audio": {"policy": "truncate"}}}
    samples = {"mmaupro_sound": [sample, text]}
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name="mmaupro_sound", samples=samples["mmaupro_sound"])
    (results_file,) = tmp_path.glob("model/results_*.json")
    (samples_file,) = tmp_path.glob("model/samples_*.jsonl")
    saved = json.loads(results_file.read_text(encoding="utf-8"))
    assert saved["config"]["heard"]["shortened_items"] == 1
    lines = [json.loads(line) for line in samples_file.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["heard"] == item
    assert lines[0]["resps"] == [["B"]]
    assert "heard" not in lines[1]
    assert after_run.footnotes(saved) == [
        "HEARD IN PART: 1 of 1 items with audio, by long_audio=truncate: 1 clips, 10.0 s in the files, "
        "4.0 s given to the model in 1 windows"
    ]
    saved["results"] = {}
    assert "Heard in mono: 1 clip(s)" in "\n".join(after_run.summary(saved))


def test_results_without_samples_keep_what_the_process_counted(tmp_path):
    compat.install()
    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.model_name_sanitized = "model"
    results = {"config": {"heard": {"items": 7}}}
    tracker.save_results_aggregated(results=results, samples=None)
    assert results["config"]["heard"] == {"items": 7}
