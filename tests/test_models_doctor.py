"""The doctor must find each fault that it looks for: every check is shown a model that fails it."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmaupro_ext.audio import AudioReader
from mmaupro_ext.commands import cli
from mmaupro_ext.commands import doctor as command
from mmaupro_ext.models import blocks, nano, pace
from mmaupro_ext.models.windows import Recording


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, doctor, BAD, GOOD, NOTE, Doctor, HFAudioLM
    import torch

    from mmaupro_ext.models import doctor
    from mmaupro_ext.models.doctor import BAD, GOOD, NOTE, Doctor
    from mmaupro_ext.models.hf.model import HFAudioLM


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pace, "BUDGET_S", 0.05)  # clips of a second or two


@pytest.fixture
def make():
    def build(**arguments):
        return HFAudioLM(
            **{"pretrained": "tiny-random", "seed": 1, "device": "cpu", "batch_size": 4} | arguments
        )

    return build


def checked(lm, name, use_template=True):
    patient = Doctor(lm, use_template)
    patient.repeats()
    return getattr(patient, name)()


def test_a_sound_model_passes_every_check(make):
    findings = list(Doctor(make(channels="stereo-as-two"), use_template=True).examine())
    verdicts = {finding.question: finding.verdict for finding in findings}
    assert list(verdicts.values()) == [GOOD] * 8 + [NOTE] * 2
    assert len(findings) == 10


def test_a_deaf_model_is_found(make):
    lm = make()

    def deaf(_, __, output):
        output.last_hidden_state.zero_()

    lm.model.model.audio_tower.register_forward_hook(deaf)
    finding = checked(lm, "hears")
    assert finding.verdict == BAD
    assert "does not listen" in finding.detail


def test_a_model_that_hears_tones_as_silence_is_found(make, monkeypatch):
    lm = make()
    read = AudioReader.read

    def without_tones(self, entry):
        samples = entry["array"]
        spectrum = np.abs(np.fft.rfft(samples))
        is_tone = spectrum.max() > 0 and (spectrum > spectrum.max() / 10).sum() < 100
        return read(self, {**entry, "array": 0 * samples} if is_tone else entry)

    monkeypatch.setattr(AudioReader, "read", without_tones)
    assert checked(lm, "hears").verdict == BAD


def test_a_model_that_does_not_read_is_found(make, monkeypatch):
    lm = make()
    monkeypatch.setattr(Doctor, "prompt_text", lambda self, content: "<audio>\nAlways the same")
    assert checked(lm, "reads").verdict == BAD


@pytest.mark.parametrize(
    ("heard", "missing"),
    [
        (lambda signals: sorted(signals, key=lambda signal: float(np.abs(signal).sum())), "order"),
        (lambda signals: [signals[0]] * len(signals), "second clip"),
        (lambda signals: [signals[-1]] * len(signals), "first clip"),
    ],
)
def test_clips_that_are_sorted_or_lost_are_found(make, monkeypatch, heard, missing):
    lm = make()
    cut = blocks.cut

    def cut_others(signals, recordings, writing):
        signals = heard(signals)
        whole = [Recording(len(s), 16_000, spans=((0, len(s)),)) for s in signals]
        return cut(signals, whole, writing)

    monkeypatch.setattr(blocks, "cut", cut_others)
    finding = checked(lm, "keeps_order")
    assert finding.verdict == BAD
    assert missing in finding.detail


def test_mono_is_a_note_and_mixed_channels_are_a_fault(make, monkeypatch):
    assert checked(make(), "tells_sides").verdict == NOTE
    lm = make(channels="stereo-as-two")
    cut = blocks.cut
    monkeypatch.setattr(blocks, "cut", lambda signals, *rest: cut(_mixed(signals), *rest))
    assert checked(lm, "tells_sides").verdict == BAD


def _mixed(signals):
    return [np.stack([signal.mean(axis=0)] * 2) for signal in signals]


def test_a_cut_clip_is_found(make):
    finding = checked(make(long_audio="truncate"), "hears_the_end")
    assert finding.verdict == BAD
    assert finding.numbers["seconds_heard"] == 30.0


def test_a_context_that_is_too_short_is_found_with_the_way_out(make):
    finding = checked(make(max_length=4096), "hears_the_end")
    assert finding.verdict == BAD
    assert "long_audio=uniform" in finding.detail
    assert checked(make(max_length=4096, long_audio="uniform"), "hears_the_end").verdict == GOOD


def test_an_item_that_is_refused_is_a_finding_and_the_others_are_checked(make):
    findings = list(Doctor(make(long_audio="native"), use_template=True).examine())
    verdicts = [finding.verdict for finding in findings]
    assert verdicts.count(BAD) == 1
    refused = findings[verdicts.index(BAD)]
    assert refused.question == "is the end of a 10-minute clip heard?"
    assert "long_audio=windows" in refused.detail


def test_features_that_differ_are_found(make, monkeypatch):
    lm = make()
    build = doctor.HFAudioLM.preparer

    def shifted(self, frontend):
        preparer = build(self, frontend)
        if frontend == "native":
            original = preparer.processor.feature_extractor

            class Shifted(type(original)):
                def __call__(self, *arguments, **options):
                    features = original(*arguments, **options)
                    features["input_features"] += 0.1
                    return features

            other = object.__new__(Shifted)
            other.__dict__.update(original.__dict__)
            preparer.processor.feature_extractor = other
        return preparer

    monkeypatch.setattr(doctor.HFAudioLM, "preparer", shifted)
    finding = checked(lm, "frontends_agree")
    assert finding.verdict == BAD
    assert "frontend=stock" in finding.detail


def test_answers_that_depend_on_the_batch_are_noted(make, monkeypatch):
    lm = make()
    score = lm.score_choices

    def biased(batch):
        return [[(value + len(batch), greedy) for value, greedy in row] for row in score(batch)]

    monkeypatch.setattr(lm, "score_choices", biased)
    finding = checked(lm, "batches_agree")
    assert finding.verdict == NOTE
    assert "batch_size=1" in finding.detail


def test_a_model_that_repeats_itself_badly_is_judged_against_that(make, monkeypatch):
    lm = make()
    expects = lm.next_token_logprobs
    draws = np.random.default_rng(0)

    def noisy(prompt):
        values = expects(prompt)
        return values + torch.from_numpy(draws.normal(0, 1.0, len(values)).astype(np.float32))

    monkeypatch.setattr(lm, "next_token_logprobs", noisy)
    patient = Doctor(lm, use_template=True)
    assert patient.repeats().verdict == NOTE
    assert patient.hears().verdict == BAD


def test_distance_looks_at_likely_tokens_only():
    first = torch.full((1000,), -50.0)
    first[:60] = -1.0 * torch.arange(60)
    second = first.clone()
    second[900] = -300.0
    assert doctor.distance(first, second) == 0.0
    second[3] = -9.0
    assert doctor.distance(first, second) == 6.0


# ---- the command -------------------------------------------------------------------------------


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", *arguments])
    return end.value.code, capsys.readouterr()


def test_the_command_prints_a_verdict_a_line_and_keeps_them(capsys, tmp_path):
    file = tmp_path / "doctor.json"
    code, said = run(
        capsys, "--model_args", "pretrained=tiny-random,device=cpu", "--json", str(file)
    )
    assert code == 0
    lines = said.out.splitlines()
    assert sum(line.startswith("yes ") for line in lines) == 7
    assert sum(line.startswith("note") for line in lines) == 3
    assert "nothing speaks against a run" in said.out
    assert "add --apply_chat_template" in said.out.replace("\n", " ")
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert len(saved["findings"]) == 10
    assert saved["about"]["family"] == "qwen2_audio"


def test_a_failed_check_is_the_exit_status(capsys):
    options = "pretrained=tiny-random,device=cpu,long_audio=truncate"
    code, said = run(capsys, "--apply_chat_template", "--model_args", options)
    assert code == 1
    assert "1 of 10 checks failed" in said.out
    assert "--apply_chat_template" not in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "openai-audio"], "looks inside the model"),
        (["--model_args", "dtype=bfloat16"], "which model?"),
        (["--model_args", '{"dtype": "bfloat16"}'], "which model?"),
        (["--model_args", '{"pretrained": "a,b"'], "no JSON"),
        (["--model_args", "pretrained=nano,dtype=float99"], "there is no such type"),
        (["--model_args", "pretrained=nano", "--batch_size", "many"], "batch_size=many: give"),
        (["--model_args", "pretrained=nano", "--batch_size", "0"], "batch_size=0: give"),
    ],
)
def test_what_cannot_be_examined_is_said(capsys, arguments, message):
    code, said = run(capsys, *arguments)
    assert code == 2
    assert message in said.err


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_weights_that_cannot_be_loaded_are_one_sentence_and_exit_2(damage, tmp_path, capsys):
    for file in Path(nano.path()).iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
        elif damage == "cut":
            (tmp_path / file.name).write_bytes(file.read_bytes()[:1000])
    code, said = run(capsys, "--model_args", f"pretrained={tmp_path}")
    assert code == 2
    error = said.err.strip().splitlines()[-1]
    assert error.startswith(f"mmaupro doctor: {tmp_path}: its weights cannot be loaded (")
    assert error.endswith("leave them out.")


def test_model_args_are_read_as_lm_eval_reads_them():
    pairs, text = "pretrained=nano,seed=3,parallelize=True", '{"pretrained": "a,b", "seed": 3}'
    assert command.model_args(pairs) == {"pretrained": "nano", "seed": 3, "parallelize": True}
    assert command.model_args(text) == {"pretrained": "a,b", "seed": 3}
