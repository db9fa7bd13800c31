"""vllm-audio against a stand-in with vLLM's documented interface and a tiny real model."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import soundfile

from mmaupro_ext import heard
from mmaupro_ext.audio.altering import altered
from mmaupro_ext.data.conditions import CONDITIONS, alters_sound, sound_of
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.models.items import Question
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global \
        vllm_standin, \
        Instance, \
        Resumed, \
        Settings, \
        tiny_random, \
        VLLMAudioLM, \
        EngineDiedError, \
        score_of, \
        HFAudioLM
    import vllm_standin
    from lm_eval.api.instance import Instance

    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.engines.vllm import VLLMAudioLM
    from mmaupro_ext.models.engines.vllm_engine import EngineDiedError
    from mmaupro_ext.models.engines.vllm_scoring import score_of
    from mmaupro_ext.models.hf.model import HFAudioLM
    from mmaupro_ext.models.resuming import Resumed, Settings


RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    model, processor = tiny_random.make(1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", vllm_standin)
    monkeypatch.setattr(vllm_standin.LLM, "made", [])

    def build(**arguments):
        return VLLMAudioLM(folder, **arguments)

    return build


@pytest.fixture(scope="module")
def local(folder):
    """The same model under hf-audio, with the library's own features, as vLLM has them."""
    return HFAudioLM(folder, device="cpu", batch_size=1, frontend="stock")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for number, seconds in enumerate((0.7, 3.0, 1.5, 2.0, 65.0)):
        time = np.arange(round(seconds * RATE)) / RATE
        noise = np.random.default_rng(number).normal(0, 0.05, len(time))
        paths.append(str(folder / f"{number}.wav"))
        soundfile.write(paths[-1], 0.4 * np.sin(2 * np.pi * 150 * 3**number * time) + noise, RATE)
    return paths


def generate(context, *paths, **gen_kwargs):
    media = ({"audio": [{"path": path} for path in paths]},) if paths else ()
    arguments = (context, {"until": [], "max_gen_toks": 8} | gen_kwargs, *media)
    made = Instance("generate_until", {"id": "q"}, arguments, 0)
    made.task_name = "task"
    return made


def score(context, continuation, *paths):
    media = ({"audio": [{"path": path} for path in paths]},) if paths else ()
    return Instance("loglikelihood", {}, (context, continuation, *media), 0)


def ask(lm, *requests):
    return lm.generate_until(list(requests), disable_tqdm=True)


PLAIN = [
    ("<audio>\nWhat is it?", [0]),
    ("<audio>\nHow many?", [1]),
    ("<audio><audio>\nWhich is higher?", [2, 3]),
    ("<audio>\n<audio>\nWhich is higher?", [3, 2]),
    ("<audio>\nWhat happens?", [4]),
    ("Hello?", []),
]
# The template of Qwen2-Audio labels each clip and writes a line break after it.
CHATS = [
    ("<audio>\nWhat is it?", [0]),
    ("This <audio> and this <audio>\nis higher?", [2, 3]),
    ("<audio>\n<audio>\nWhich is higher?", [3, 2]),
    ("<audio> and <audio>What happens?", [4, 1]),
    ("<audio>\n\nWhat happens?", [4]),
    ("Hello?", []),
]


def rendered(lm, text, start=True, **more):
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    history += [{"role": role, "content": content} for role, content in more.items()]
    return lm.apply_chat_template(history, add_generation_prompt=start)


# ---- the same as hf-audio ----------------------------------------------------------------------


def test_plain_prompts_are_answered_as_by_the_local_adapter(make, local, clips):
    lm = make()
    requests = [generate(text, *(clips[n] for n in numbers)) for text, numbers in PLAIN]
    replies = ask(lm, *requests)
    expected = ask(local, *requests)
    assert replies == expected
    assert len(set(replies)) > 1
    for reply, other in zip(replies[:-1], expected[:-1], strict=True):
        assert reply.heard == other.heard
    assert replies[-1].heard is None
    tokens = sum(reply.heard["audio_tokens"] for reply in expected[:-1])
    assert lm.heard.as_dict() == {
        **local.heard.as_dict(), "audio_tokens": tokens, "items": 5, "clips": 7, "windows": 9,
        "seconds_in_files": 75.7, "seconds_heard": 75.7,
    }  # fmt: skip


def test_plain_prompts_are_the_text_of_the_local_adapter(make, local, clips):
    lm = make()
    for text, numbers in PLAIN[:-1]:
        question = Question(text, {"audio": [clips[n] for n in numbers]})
        prompt = lm.writer.write(lm.prepare(question))
        assert prompt.text == local.prepare(question).text
        assert prompt.special_tokens


def test_chats_are_answered_as_by_the_local_adapter(make, local, clips):
    lm = make()
    paths = [[clips[n] for n in numbers] for _, numbers in CHATS]
    served = ask(
        lm, *(generate(rendered(lm, text), *p) for (text, _), p in zip(CHATS, paths, strict=True))
    )
    expected = ask(
        local,
        *(generate(rendered(local, text), *p) for (text, _), p in zip(CHATS, paths, strict=True)),
    )
    assert served == expected
    (llm,) = vllm_standin.LLM.made
    assert llm.calls == [("chat", len(CHATS))]
    assert llm.conversations[-1][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("options", [{}, {"multi_audio": "concat"}, {"long_audio": "truncate"}])
def test_chats_are_the_tokens_of_the_local_adapter(make, folder, clips, options):
    lm, local = make(**options), HFAudioLM(folder, device="cpu", batch_size=1, **options)
    lm.engine.start({"audio": 4})
    for text, numbers in CHATS:
        if options.get("multi_audio") == "concat" and " and " in text:
            continue  # hf-audio keeps the line break of the second place, where no clip is any more
        media = {"audio": [clips[n] for n in numbers]} if numbers else {}
        prompt = lm.writer.write(lm.prepare(Question(rendered(lm, text), media)))
        _, (ready,) = lm.engine.llm.renderer.render_chat(
            [prompt.messages], {"add_generation_prompt": True, "continue_final_message": False}
        )
        expected = local.prepare(Question(rendered(local, text), media)).tensors["input_ids"]
        assert ready["inputs"]["input_ids"].tolist() == expected.tolist(), text


def test_other_labels_than_those_of_the_template_stay(make, clips):
    lm = make(block_label="Clip {number}: ")
    question = Question(rendered(lm, "<audio><audio>?"), {"audio": [clips[0], clips[1]]})
    texts = [part for part in lm.prepare(question).messages[-1].parts if isinstance(part, str)]
    assert texts == ["Clip 1: ", "Clip 2: ", "?"]


CHOICES = ("A", "B is right", " the first one", "D")


@pytest.mark.parametrize("chat", [False, True])
def test_log_likelihoods_are_those_of_the_local_adapter(make, local, clips, chat):
    lm = make()
    questions = CHATS if chat else PLAIN
    served, expected = (
        [
            score(rendered(model, text) if chat else text, choice, *(clips[n] for n in numbers))
            for text, numbers in questions
            for choice in CHOICES
        ]
        for model in (lm, local)
    )
    found = lm.loglikelihood(served, disable_tqdm=True)
    wanted = local.loglikelihood(expected, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    assert found[0][0].heard["clips"][0]["file"] == clips[0]
    (llm,) = vllm_standin.LLM.made
    first = ("chat" if chat else "text", len(questions))
    assert llm.calls[:2] == [first, ("text", len(questions) * len(CHOICES))]
    # Each question counts once, whatever the number of its choices.
    assert lm.heard.as_dict()["items"] == len(questions) - 1


def test_an_empty_context_is_the_token_that_begins_a_text(make, local, clips):
    lm = make()
    both = [score("", "A", clips[0]), score("", "B is right", clips[0])]
    found = lm.loglikelihood(both, disable_tqdm=True)
    wanted = local.loglikelihood(both, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=1e-4)


# ---- what vLLM is given ------------------------------------------------------------------------


def test_samples_reach_vllm_as_they_were_decoded(make, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (RATE, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, RATE, subtype="FLOAT")
    question = Question("<audio>\nWhat?", {"audio": [str(tmp_path / "a.wav")]})
    lm = make(channels="stereo")
    prompt = lm.writer.write(lm.prepare(question))
    ((samples, rate),) = prompt.media["audio"]
    np.testing.assert_array_equal(samples, noise.T)
    assert rate == RATE
    chat = lm.writer.write(lm.prepare(Question(rendered(lm, "<audio>\nWhat?"), question.media)))
    _, ((sent, sent_rate),) = vllm_standin._read(chat.messages)
    np.testing.assert_array_equal(sent, noise.T)
    assert sent_rate == RATE


@pytest.mark.parametrize("name", [one for one in CONDITIONS if alters_sound(one)])
def test_altered_sound_reaches_vllm_bit_for_bit(make, tmp_path, name):
    """As floats: noise beyond full scale is not cut, as it is where a server takes 16 bits."""
    loud = np.random.default_rng(0).uniform(-0.9, 0.9, (31 * RATE, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", loud, RATE, subtype="FLOAT")
    told = sound_of({"id": "q", "condition": {"name": name, "part": 2, "of": 3}}, 0)
    media = {"audio": [{"path": str(tmp_path / "a.wav"), "condition": told}]}
    lm = make(channels="stereo", whole_s=60)
    prompt = lm.writer.write(lm.prepare(Question("<audio>\nWhat?", media)))
    ((samples, _),) = prompt.media["audio"]
    np.testing.assert_array_equal(samples, altered(loud.T, RATE, told))
    assert name != "noise" or np.abs(samples).max() > 1.0
    chat = lm.writer.write(lm.prepare(Question(rendered(lm, "<audio>\nWhat?"), media)))
    _, ((sent, _),) = vllm_standin._read(chat.messages)
    np.testing.assert_array_equal(sent, samples)


def test_engine_arguments_go_to_vllm_and_into_the_results(make):
    lm = make(
        tensor_parallel_size=2, distributed_executor_backend="ray", dtype="bfloat16",
        max_length=4096, limit_mm_per_prompt='{"audio": 3}', seed=5, gpu_memory_utilization=0.5,
        device="cuda", max_batch_size=4, enforce_eager=True,
        default_mm_loras='{"audio": "speech-lora"}',
    )  # fmt: skip
    llm = lm.engine.llm
    assert llm.arguments["tensor_parallel_size"] == 2
    assert llm.arguments["distributed_executor_backend"] == "ray"
    assert llm.arguments["dtype"] == "bfloat16"
    assert llm.arguments["interleave_mm_strings"] is True
    assert llm.arguments["default_mm_loras"] == {"audio": "speech-lora"}
    assert (llm.limits, llm.max_model_len) == ({"audio": 3}, 4096)
    info = lm.get_model_info()
    assert info["vllm_version"] == "0.32.0-stand-in"
    assert info["vllm_arguments"]["seed"] == 5
    with pytest.raises(ConfigError, match="no argument 'windows_s'. The nearest: window_s"):
        make(windows_s=10)  # vLLM would find it when it is loaded
    with pytest.raises(TypeError, match="not_of_vllm"):
        make(not_of_vllm=10).engine.start({})


def test_everything_is_given_at_once_and_no_more_than_asked(make, clips):
    requests = [generate("<audio>\nWhat?", clips[n % 4]) for n in range(7)]
    requests.insert(3, generate("text"))
    lm = make()
    expected = ask(lm, *requests)
    assert vllm_standin.LLM.made[-1].calls == [("text", 8)]
    assert ask(make(batch_size=3), *requests) == expected
    assert vllm_standin.LLM.made[-1].calls == [("text", 3), ("text", 3), ("text", 2)]
    # Three seconds take 0.7 MiB on their way, and text a sixteenth of one.
    assert ask(make(prefetch_mb=1.0), *requests) == expected
    assert max(count for _, count in vllm_standin.LLM.made[-1].calls) < 5
    assert ask(make(prefetch_workers=0), *requests) == expected


def test_generation_options_become_sampling_parameters(make):
    lm = make(max_gen_toks=7)
    params, until = lm._sampling(
        {"until": ["\n", ""], "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    )
    assert (params.temperature, params.top_p, params.max_tokens) == (0.7, 0.9, 7)
    assert params.stop == until == ["\n"]
    params, _ = lm._sampling({"until": [], "max_gen_toks": 3})
    assert (params.temperature, params.max_tokens, params.stop) == (0.0, 3, None)
    with pytest.raises(ConfigError, match="num_beams.*--gen_kwargs"):
        lm._sampling({"until": [], "num_beams": 4})


def test_the_beginning_of_an_answer_is_gone_on_with(make, local, clips):
    lm = make()
    requests = [
        generate(rendered(model, "<audio>Which?", start=False, assistant="It is"), clips[1])
        for model in (lm, local)
    ]
    assert ask(lm, requests[0]) == ask(local, requests[1])


# ---- failures ----------------------------------------------------------------------------------


def test_a_prompt_that_vllm_refuses_costs_no_other(make, clips, tmp_path):
    lm = make(max_model_len=200)
    requests = [
        generate("<audio>\nWhat?", clips[0]),
        generate("<audio>\n" + "very long " * 40, clips[0]),
        generate("<audio>\nWhat?", str(tmp_path / "none.wav")),
        generate("text"),
        generate("<audio>\nHow?", clips[2]),
    ]
    replies = ask(lm, *requests)
    too_long, missing = parse_error(replies[1]), parse_error(replies[2])
    assert "maximum context length is 200" in too_long["problem"]
    assert "max_model_len" in too_long["fix"]
    assert (too_long["item"], too_long["file"]) == ("task q", clips[0])
    assert "none.wav" in missing["file"]
    assert all(parse_error(replies[n]) is None for n in (0, 3, 4))
    assert lm.heard.as_dict()["errored_items"] == 2
    scores = lm.loglikelihood(
        [score(r.args[0], "A", *(e["path"] for e in r.args[2]["audio"])) for r in requests[:3]],
        disable_tqdm=True,
    )
    assert [math.isnan(value) for value, _ in scores] == [False, True, True]


def test_a_clip_of_a_prompt_that_vllm_refuses_is_heard_in_the_next_one(make, clips):
    lm = make(max_model_len=200)
    replies = ask(
        lm,
        generate("<audio>\nHow?", clips[2]),
        generate("<audio>\n" + "very long " * 40, clips[0]),
        generate("<audio>\nWhat?", clips[0]),
        generate("<audio>\nWhere?", clips[2]),
    )
    assert [parse_error(reply) is None for reply in replies] == [True, False, True, True]


def test_more_sounds_than_allowed_are_an_error_with_the_way_out(make, clips):
    lm = make(limit_mm_per_prompt={"audio": 1})
    (refused,) = ask(lm, generate("<audio><audio>\nWhich?", *clips[:2]))
    assert "At most 1 audio(s)" in parse_error(refused)["problem"]
    assert "multi_audio=concat" in parse_error(refused)["fix"]
    lm = make(limit_mm_per_prompt={"audio": {"count": 1}}, multi_audio="concat")
    (joined,) = ask(lm, generate("<audio><audio>\nWhich?", *clips[:2]))
    assert joined.heard["windows"] == 1


def test_an_engine_that_ends_stops_the_run_and_keeps_what_was_answered(
    make, clips, monkeypatch, tmp_path
):
    requests = [generate(f"<audio>\n{n}?", clips[0]) for n in range(5)]
    lm = make(batch_size=2)
    kept = []
    run = lm.engine.llm.wait_for_completion

    def dying(**options):
        outputs = run(**options)
        monkeypatch.setattr(vllm_standin.LLM, "dies", len(kept) > 0)
        return outputs

    monkeypatch.setattr(lm.engine.llm, "wait_for_completion", dying)
    monkeypatch.setattr(lm.cache_hook, "add_partial", lambda *entry: kept.append(entry))
    with pytest.raises(EngineDiedError, match="gpu_memory_utilization"):
        ask(lm, *requests)
    assert [entry[1] for entry in kept] == [request.args for request in requests[: len(kept)]]
    assert len(kept) >= 2


def test_answers_are_kept_and_failures_tried_again_when_that_is_asked_for(make, clips, tmp_path):
    database = str(tmp_path / "kept")
    requests = [generate("<audio>\nWhat?", clips[0]), generate("<audio>\nWhat?", clips[1])]
    short = make()
    short.engine.llm.max_model_len = 60
    first = Resumed(short, database).generate_until(requests)
    assert [parse_error(reply) is None for reply in first] == [True, False]
    assert Resumed(make(), database).generate_until(requests) == first
    again = Resumed(make(), database, Settings(retry_errors=True))
    second = again.generate_until(requests)
    assert second[0] == first[0]
    assert second[0].heard == first[0].heard
    assert parse_error(second[1]) is None
    assert vllm_standin.LLM.made[-1].calls == [("text", 1)]


def test_a_chat_that_vllm_does_not_give_back_as_text_is_an_error(make, clips):
    lm = make()
    lm.engine.llm.hidden_text = True
    ((value, _),) = lm.loglikelihood(
        [score(rendered(lm, "<audio>What?"), "A", clips[0])], disable_tqdm=True
    )
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("tokens", "table", "message"),
    [
        ([1, 2, 4], [None, {}, {}], "does not end with"),
        ([1, 2, 3], None, "0 of 3 tokens"),
        ([1, 2, 3], [None, {}], "2 of 3 tokens"),
        ([1, 2, 3], [None, {}, {9: 0.0}], "no number"),
        ([1, 2, 3], [None, {}, {3: math.nan}], "no number"),
    ],
)
def test_numbers_that_cannot_be_trusted_are_no_scores(tokens, table, message):
    if table and table[-1]:
        table[-1] = {token: vllm_standin.Logprob(value, 1) for token, value in table[-1].items()}
    output = vllm_standin.RequestOutput("text", tokens, table)
    with pytest.raises(ItemError, match=message):
        score_of(output, [3])


def test_without_ranks_the_largest_number_is_the_likeliest():
    table = [None, {2: vllm_standin.Logprob(-0.5), 7: vllm_standin.Logprob(-0.9)}]
    assert score_of(vllm_standin.RequestOutput("", [1, 2], table), [2]) == (-0.5, True)
    table[1][7] = vllm_standin.Logprob(-0.1)
    assert score_of(vllm_standin.RequestOutput("", [1, 2], table), [2]) == (-0.5, False)


# ---- checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [False, True])
def test_a_model_that_cuts_whole_clips_is_found_out(make, clips, chat):
    lm = make(long_audio="native")
    context = rendered(lm, "<audio>What?") if chat else "<audio>What?"
    with pytest.raises(ConfigError, match="65.0 s is not heard whole"):
        ask(lm, generate(context, clips[4]))
    with pytest.raises(ConfigError, match="65.0 s is not heard whole"):
        lm.loglikelihood([score(context, "A", clips[4])])
    lm = make(long_audio="native", check=False)
    (reply,) = ask(lm, generate(context, clips[4]))
    assert "hears 30 s at once, and was given 65.0 s" in parse_error(reply)["problem"]


def test_what_is_left_out_is_said(make, clips):
    lm = make(long_audio="truncate")
    (reply,) = ask(lm, generate("<audio>\nWhat?", clips[4]))
    assert reply.heard["seconds_heard"] == 30.0
    assert heard.is_shortened(reply.heard)


def test_without_vllm_the_way_to_it_is_said(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="pip install 'vllm.*openai-audio"):
        VLLMAudioLM(folder)


def test_several_processes_are_refused(make, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="tensor_parallel_size"):
        make()


def test_rolling_log_likelihoods_are_refused_first(make):
    class Rolling:
        OUTPUT_TYPE = "loglikelihood_rolling"

    lm = make()
    with pytest.raises(ConfigError, match="wikitext.*rolling"):
        lm.check_tasks({"wikitext": Rolling})
    with pytest.raises(ConfigError, match="rolling"):
        lm.loglikelihood_rolling([score("a", "b")])


def test_a_plain_prompt_of_an_unknown_model_asks_for_its_placeholder(make, clips, monkeypatch):
    lm = make()
    monkeypatch.setattr(lm.writer, "family", lambda: None)
    with pytest.raises(ConfigError, match="--apply_chat_template, or audio_placeholder"):
        ask(lm, generate("<audio>\nWhat?", clips[0]))
    lm = make(audio_placeholder="<|audio_bos|><|AUDIO|><|audio_eos|>")
    monkeypatch.setattr(lm.writer, "family", lambda: None)
    (reply,) = ask(lm, generate("<audio>\nWhat?", clips[0]))
    assert parse_error(reply) is None


def test_vllm_refusing_everything_ends_the_run(make, clips):
    """One prompt too long among others is its own affair; twenty in a row with the same words are not."""
    lm = make(max_model_len=20)
    requests = [generate("<audio>\nWhat?", clips[0]) for _ in range(25)]
    with pytest.raises(ConfigError, match="vLLM fails on 20 items in a row.*max_model_len"):
        ask(lm, *requests)


def test_what_fails_while_an_item_is_made_ready_costs_it(make, clips, monkeypatch):
    lm = make()
    write = lm.writer.write

    def fails(prepared):
        if "#" in str(prepared.messages):
            raise KeyError("a template")
        return write(prepared)

    monkeypatch.setattr(lm.writer, "write", fails)
    replies = ask(lm, *(generate(f"<audio>\n{mark}", clips[0]) for mark in "a#b"))
    assert [parse_error(reply) is None for reply in replies] == [True, False, True]
    assert "KeyError: 'a template'" in parse_error(replies[1])["problem"]


# ---- what vLLM made of it -----------------------------------------------------------------------


@pytest.mark.parametrize("chat", [False, True])
def test_a_sound_that_vllm_cuts_is_an_error_and_no_answer(make, clips, chat):
    lm = make()
    lm.engine.llm.audio_tokens_at_most = 40
    contexts = [rendered(lm, "<audio>What?") if chat else "<audio>\nWhat?"] * 2
    short, cut = ask(
        lm, *(generate(context, clip) for context, clip in zip(contexts, clips[:2], strict=True))
    )
    assert parse_error(short) is None
    assert "3.0 s 40 tokens of the 75" in parse_error(cut)["problem"]
    requests = [score(contexts[0], choice, clips[1]) for choice in "AB"]
    assert all(math.isnan(value) for value, _ in lm.loglikelihood(requests, disable_tqdm=True))


def test_sounds_that_vllm_leaves_out_are_an_error(make, clips, monkeypatch):
    lm = make()
    render = vllm_standin.Renderer.render_cmpl

    def lose_one(self, *arguments):
        inputs = render(self, *arguments)
        inputs[0]["mm_placeholders"]["audio"].pop()
        return inputs

    monkeypatch.setattr(vllm_standin.Renderer, "render_cmpl", lose_one)
    (reply,) = ask(lm, generate("<audio><audio>\nWhich?", *clips[:2]))
    assert "placed 1 sounds of 2" in parse_error(reply)["problem"]


def test_vllm_is_started_for_what_the_requests_have(make, clips):
    lm = make()
    ask(lm, generate("<audio><audio>\nWhich?", *clips[:2]), generate("<audio>\nWhat?", clips[4]))
    (first,) = vllm_standin.LLM.made
    assert first.limits == {"audio": 3, "image": 0, "video": 0}
    ask(lm, generate("Hello?"), generate("<audio>\nWhat?", clips[0]))
    assert lm.engine.llm is first
    many = [clips[0]] * 4
    (reply,) = ask(lm, generate("<audio>" * 4 + "Which?", *many))
    assert parse_error(reply) is None
    assert lm.engine.llm.limits == {"audio": 4, "image": 0, "video": 0}
    assert first.stopped


def test_choices_are_scored_on_the_cached_context(make, local, clips):
    """A choice that begins with another one finds part of itself in the cache, without numbers."""
    lm = make()
    choices = ["A", "A" * 40, "A" * 60]
    requests = [score("<audio>\nWhat?", choice, clips[1]) for choice in choices]
    found = lm.loglikelihood(requests, disable_tqdm=True)
    wanted = local.loglikelihood(requests, disable_tqdm=True)
    # Both are float32; the passes differ in length.
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=1e-4)
    assert lm.engine.llm.calls == [("text", 1), ("text", 3), ("text", 1)]


def test_an_old_vllm_is_refused_with_the_way_out(make, monkeypatch):
    monkeypatch.delattr(vllm_standin.LLM, "enqueue_chat")
    with pytest.raises(ConfigError, match="too old.*openai-audio"):
        make()


def test_a_refusal_names_its_true_cause(make, clips, monkeypatch):
    lm = make()

    def refuse(*_):
        try:
            raise ValueError("expected 3000 frames, got 400")
        except ValueError as error:
            raise RuntimeError("Failed to apply the processor") from error

    monkeypatch.setattr(vllm_standin.Renderer, "render_cmpl", refuse)
    (reply,) = ask(lm, generate("<audio>\nWhat?", clips[0]))
    assert "because: expected 3000 frames" in parse_error(reply)["problem"]
    assert "limit_mm_per_prompt" not in parse_error(reply)["fix"]
