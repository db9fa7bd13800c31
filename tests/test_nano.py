"""nano: that it hears, that only hearing helps it, and that its training does what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lm_eval.api.instance import Instance

from mmaupro_ext import data as dataset
from mmaupro_ext.models import nano
from mmaupro_ext.models.items import Question
from nano_training import architecture, data, evaluate, train, vocabulary
from synth import build, questions

SIZES = (2, 3, 2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def hearing():
    return evaluate.load(nano.path())


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary.make_tokenizer()


def doc_of(skill):
    for category in dataset.CATEGORIES:
        for doc in dataset.load_category(category, sample=True):
            if doc["sub-cat"] == skill and doc["choices"]:
                return doc
    raise LookupError(skill)


# ---- the shipped model -------------------------------------------------------------------------


def test_nano_hears_the_sample_and_noise_in_its_place_leaves_guessing(nano_run):
    closed = [slug for slug, kind in dataset.CATEGORIES.items() if kind.kind == "closed"]
    heard = [
        evaluate.read_sample(slug, json.loads(line))
        for slug in closed
        for file in nano_run.glob(f"nano/samples_mmaupro-sample_{slug}_2*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    assert len(heard) == 79
    assert evaluate.p_value(heard) < 1e-6
    deaf = evaluate.answer_sample(evaluate.load(nano.path(), "noise"))
    assert evaluate.p_value(deaf) > 0.01


def test_both_frontends_give_the_same_answers(hearing):
    categories = ["music_speech", "spatial_audio", "sound_speech"]
    stock = evaluate.answer_sample(evaluate.load(nano.path(), frontend="stock"), categories)
    native = evaluate.answer_sample(hearing, categories)
    assert [one.reply for one in stock] == [one.reply for one in native]


def test_log_likelihood_hears_too(hearing):
    """By the score of the option texts, too, the right one wins more often than by chance."""
    answered = []
    for category in ("sound_music", "music_speech", "sound_speech"):
        for doc in dataset.load_category(category, sample=True):
            context = data.task_functions().doc_to_text(doc)
            media = {"audio": dataset.audio_references(doc)}
            requests = [
                Instance("loglikelihood", doc, (context, choice, media), number)
                for number, choice in enumerate(doc["choices"])
            ]
            scores = [score for score, _ in hearing.loglikelihood(requests, disable_tqdm=True)]
            chosen = doc["choices"][int(np.argmax(scores))]
            answered.append(
                evaluate.Answered(
                    category,
                    doc["sub-cat"],
                    len(scores),
                    chosen,
                    doc["answer"],
                    chosen == doc["answer"],
                )
            )
    assert evaluate.p_value(answered) < 0.01


def test_the_checkpoint_is_small_and_loads_as_float32(hearing):
    folder = Path(nano.path())
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6
    assert sum(weight.numel() for weight in hearing.model.parameters()) < 3e6
    assert {weight.dtype for weight in hearing.model.parameters()} == {torch.float32}


def test_the_checkpoint_takes_stereo_as_two_in_blocks_of_four_seconds(hearing):
    assert hearing.channels == "stereo-as-two"
    assert hearing.family.writing.window_s == data.WINDOW_S == 4
    doc = doc_of("movement")
    prompt = hearing.prepare(Question("<audio>\nHow?", {"audio": dataset.audio_references(doc)}))
    assert prompt.blocks == [2]


def test_the_chat_template_changes_nothing(hearing):
    media = {"audio": dataset.audio_references(doc_of("higher clip"))}
    bare = "<audio><audio>\nIn which recording is the note higher?"
    chat = hearing.apply_chat_template([{"role": "user", "content": bare}])
    assert (
        hearing.prepare(Question(chat, media)).text == hearing.prepare(Question(bare, media)).text
    )


def test_a_clip_of_a_second_and_one_of_a_minute_are_served(hearing, tmp_path):
    """Lengths that no training batch has must not end in an error."""
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * 16000)
    soundfile.write(tmp_path / "minute.wav", noise, 16000)
    soundfile.write(tmp_path / "second.wav", noise[:16000], 16000)
    media = {"audio": [{"path": str(tmp_path / f"{name}.wav")} for name in ("minute", "second")]}
    request = Instance(
        "generate_until", {}, ("<audio><audio>\nWhich is longer?", {"max_gen_toks": 4}, media), 0
    )
    (reply,) = hearing.generate_until([request], disable_tqdm=True)
    assert "error" not in reply.lower()


# ---- the training material ---------------------------------------------------------------------


def test_training_never_draws_from_the_streams_of_the_sample():
    ours = data.stream(build.DEFAULT_SEED, "digit 0").integers(0, 2**62, 4)
    theirs = build._stream(build.DEFAULT_SEED, "digit 0").integers(0, 2**62, 4)
    assert not set(ours) & set(theirs)


@pytest.mark.parametrize("stage", train.STAGES)
def test_equal_seeds_give_equal_batches(stage):
    number = train.EASY_STEPS  # the first batch of the second stage with every group
    first = train.make_batch(stage, 3, number, SIZES)
    again = train.make_batch(stage, 3, number, SIZES)
    other = train.make_batch(stage, 4, number, SIZES)

    def features(groups):
        kind = "block" if stage == "listen" else "blocks"
        return [getattr(one, kind).tobytes() for group in groups for one in group]

    assert features(first) == features(again)
    assert features(first) != features(other)
    assert [len(group) for group in first] == ([2] if stage == "listen" else [3, 2])


@pytest.mark.parametrize("skill", ["digit", "scene order", "movement", "highest of three"])
def test_training_prompts_are_what_hf_audio_sends(hearing, skill):
    """Tokens and scores of a sample item, prepared for training and prepared for evaluation."""
    doc = doc_of(skill)
    question = Question(
        data.task_functions().doc_to_text(doc), {"audio": dataset.audio_references(doc)}
    )
    prompt = hearing.prepare(question)
    clips, rates = [], []
    for reference in dataset.audio_references(doc):
        samples, rate = soundfile.read(reference["path"], dtype="float32", always_2d=True)
        clips.append(samples[:, 0] if samples.shape[1] == 1 else samples.T)
        rates.append(rate)
    blocks, samples, recordings = data.hear(clips, rates)
    example = data.Example(
        skill=skill,
        blocks=blocks,
        samples=tuple(samples),
        recordings=tuple(recordings),
        question=doc["question"],
        choices=tuple(doc["choices"]),
        answer=doc["answer"],
    )
    assert example.prompt() == prompt.text
    learner = train.Learner(hearing.tokenizer, hearing.model, torch.nn.ModuleDict())
    with torch.no_grad():
        scores, _, _ = learner.answer_scores([example], encoder_learns=False)
        theirs = hearing.model(**prompt.tensors).logits[0, -1]
    # The training features are kept as float16.
    torch.testing.assert_close(scores[0], theirs, atol=0.05, rtol=0.01)


def test_every_skill_but_the_long_ones_is_trained_and_answered_in_the_words_of_an_option():
    assert set(data.SKILLS) == set(questions.SKILLS) - set(build.LONG_STORAGES)
    for name in data.SKILLS:
        example = data.make_example(name, data.stream(5, name))
        assert example.answer in example.choices
        assert example.prompt().count("<|AUDIO|>") == len(example.blocks) == len(example.samples)


def test_labels_of_a_scene_stand_where_the_sound_is():
    for number in range(20):
        scene = data.make_scene(data.stream(5, "scene", number))
        kind, spoken, _, _, _, bed, _ = scene.labels
        inside = kind >= 0
        assert inside.sum() == sum(data.WRITING.count_tokens([scene.samples]))
        assert ((spoken > 0) <= np.isin(kind, [1, 2])).all()
        if bed.max() <= 0 and (kind == 0).any() and (kind > 0).any():
            mel = scene.block.astype(float).max(axis=0).reshape(-1, 4).mean(axis=1)
            assert mel[kind > 0].mean() > mel[kind == 0].mean()


# ---- the tokenizer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "red", "Ünïcödé 你好 🎧", "a\n\nb\t c  ", "the first recording?", "<audio> (A) x"]
)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_the_tokenizer_is_rebuilt_as_shipped(tokenizer, hearing):
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    shipped = json.loads(hearing.tokenizer.backend_tokenizer.to_str())
    assert made["model"] == shipped["model"]
    assert made["added_tokens"] == shipped["added_tokens"]


# ---- the training ------------------------------------------------------------------------------


def trainer_in(folder, steps=(2, 1, 1)):
    return train.Trainer(folder / "nano", 1, steps, sizes=SIZES, per_skill=1, background=False)


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "EASY_STEPS", 0)
    monkeypatch.setattr(data, "SKILLS", ("sweep", "movement"))  # held-out questions only
    whole = trainer_in(tmp_path / "whole")
    whole.run(check_every=1)
    broken = trainer_in(tmp_path / "broken")
    backward = broken._backward

    def stop_at_the_second_stage(stage, groups):
        if stage == "answer":
            raise KeyboardInterrupt
        return backward(stage, groups)

    monkeypatch.setattr(broken, "_backward", stop_at_the_second_stage)
    with pytest.raises(KeyboardInterrupt):
        broken.run(check_every=1)
    resumed = trainer_in(tmp_path / "broken")
    resumed.load_state()
    assert resumed.done == {"listen": 2, "answer": 0, "together": 0}
    resumed.run(check_every=1)
    for name, weight in whole.learner.model.state_dict().items():
        torch.testing.assert_close(resumed.learner.model.state_dict()[name], weight)
    log = (tmp_path / "broken" / "nano.log.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in log] == ["listen", "listen", "answer", "together"]
    lm = evaluate.load(str(tmp_path / "broken" / "nano"))
    assert lm.model.config.mmaupro_channels == "stereo-as-two"


def test_a_few_steps_on_one_skill_lower_the_loss():
    learner = train.Learner.make(0)
    rng = data.stream(0, "lower the loss")
    examples = [data.make_example("sweep", rng) for _ in range(4)]
    optimizer = torch.optim.AdamW(learner.parameters("together"), lr=1e-3)
    losses = []
    for _ in range(6):
        scores, targets, _ = learner.answer_scores(examples, encoder_learns=True)
        loss = torch.nn.functional.cross_entropy(scores, targets)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_the_language_model_learns_while_the_encoder_stands_still():
    learner = train.Learner.make(0)
    frozen = {id(weight) for weight in learner.parameters("answer")}
    encoder = learner.model.model.audio_tower.parameters()
    assert not any(id(weight) in frozen for weight in encoder)
    assert len(learner.parameters("together")) == len(list(learner.model.parameters()))


def test_guessing_has_the_p_value_of_the_binomial_distribution():
    """Eight of ten right among two options: (45 + 10 + 1) / 1024."""
    answered = [
        evaluate.Answered("sound", "x", 2, "", "", correct=number < 8) for number in range(10)
    ]
    assert evaluate.p_value(answered) == pytest.approx(56 / 1024)
    assert architecture.MAX_POSITIONS > 150 * 110  # the ten-minute clip of the benchmark fits
