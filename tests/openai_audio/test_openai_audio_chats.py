"""openai-audio: chats, text, images and parameters."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from listening_server import (
    Listener,
    error,
    parts_of,
    samples_of,
)
from server_requests import ask, model, request


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global Instance
    from lm_eval.api.instance import Instance


# ---- chats, text, images -------------------------------------------------------------------------
def chat(lm, *messages, start=True):
    history = [{"role": role, "content": content} for role, content in messages]
    return lm.apply_chat_template(history, add_generation_prompt=start)


def test_a_chat_arrives_with_its_roles_and_blocks_numbered_over_all_of_it(clip):
    paths = [clip(f"{n}.wav")[0] for n in range(3)]
    with Listener() as server:
        lm = model(server)
        context = chat(
            lm,
            ("system", 'Be "brief".\n'),
            ("user", "<audio>\nOne?"),
            ("assistant", "yes"),
            ("user", "<audio><audio>\nTwo?"),
        )
        ask(lm, request(context, *paths))
    system, first, reply, second = server.asked[0]["messages"]
    assert system == {"role": "system", "content": 'Be "brief".\n'}
    assert reply == {"role": "assistant", "content": "yes"}
    assert (first["role"], second["role"]) == ("user", "user")
    assert [part.get("text") for part in first["content"]] == ["Audio 1: ", None, "\nOne?"]
    assert [part.get("text") for part in second["content"]] == [
        "Audio 2: ", None, "\nAudio 3: ", None, "\nTwo?",
    ]  # fmt: skip


def test_a_long_clip_is_explained_in_its_own_message(clip):
    path, _ = clip("a.wav", 40.0)
    with Listener() as server:
        lm = model(server)
        ask(lm, request(chat(lm, ("user", "Hear <audio>"), ("user", "What?")), path))
    first, second = server.asked[0]["messages"]
    assert first["content"][-1]["text"].endswith("consecutive 20-second parts.\n")
    assert second["content"] == "What?"


def test_a_bare_prompt_is_one_message_and_text_stays_text():
    with Listener() as server:
        lm = model(server)
        ask(lm, request("Two plus two?"), request(chat(lm, ("user", "The tag <audio> means?"))))
    assert [body["messages"] for body in server.asked] == [
        [{"role": "user", "content": "Two plus two?"}],
        [{"role": "user", "content": "The tag <audio> means?"}],
    ]
    assert not server.checks


def test_the_beginning_of_an_answer_is_gone_on_with():
    with Listener() as server:
        lm = model(server)
        ask(lm, request(chat(lm, ("user", "Q?"), ("assistant", "Answer:"), start=False)))
    (body,) = server.asked
    assert body["messages"][-1] == {"role": "assistant", "content": "Answer:"}
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False


def test_images_and_sounds_stand_where_their_marks_stand(clip):
    from PIL import Image

    red, blue = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    path, samples = clip("a.wav")
    with Listener() as server:
        lm = model(server)
        ask(lm, request("<image>vs<image> <audio>?", path, images=[red, blue]))
    parts = parts_of(server.asked[0])
    assert [part["type"] for part in parts] == [
        "image_url", "text", "image_url", "text", "input_audio", "text",
    ]  # fmt: skip
    for part, image in ((parts[0], red), (parts[2], blue)):
        head, data = part["image_url"]["url"].split(",")
        assert head == "data:image/png;base64"
        decoded = Image.open(io.BytesIO(base64.b64decode(data)))
        assert decoded.tobytes() == image.tobytes()
    np.testing.assert_array_equal(samples_of(parts[4])[0], samples)
    assert lm.get_model_info()["check"]["images_reach_the_model"] is True


# ---- parameters ----------------------------------------------------------------------------------
def test_generation_options_are_translated():
    with Listener() as server:
        lm = model(server, seed=7, extra_body='{"top_k": 5, "chat_template_kwargs": {"a": 1}}')
        ask(
            lm,
            request("a"),
            request("b", do_sample=True, temperature=0.7, top_p=0.9, max_gen_toks=3),
        )
    greedy, sampled = server.asked
    assert greedy["model"] == "tiny"
    assert (greedy["temperature"], greedy["max_tokens"], greedy["seed"]) == (0.0, 8, 7)
    assert "stop" not in greedy
    assert "do_sample" not in greedy
    assert (sampled["temperature"], sampled["top_p"], sampled["max_tokens"]) == (0.7, 0.9, 3)
    assert sampled["top_k"] == 5
    assert sampled["chat_template_kwargs"] == {"a": 1}


def test_the_other_name_of_the_length_is_used_everywhere(clip):
    with Listener() as server:
        lm = model(server, max_tokens_field="max_completion_tokens", max_gen_toks=17)
        path = clip("a.wav")[0]
        made = Instance("generate_until", {}, ("<audio>?", {"until": []}, {"audio": [path]}), 0)
        ask(lm, made)
    assert server.asked[0]["max_completion_tokens"] == 17
    assert all("max_tokens" not in body for _, body in server.requests)


def test_stop_strings_are_sent_and_replies_cut_at_all_of_them():
    stops = ["\n\n", "Q:", "</s>", "###", "END"]
    with Listener(reply=lambda body: "yes END no") as server:
        lm = model(server)
        assert ask(lm, request("a", until=[*stops, ""])) == ["yes "]
    assert server.asked[0]["stop"] == stops[:4]
    assert server.checks[0]["stop"] == ["\n\n"]


def test_a_server_that_fails_at_stop_strings_is_not_sent_any():
    def reply(body):
        return "yes\n\nno"

    with Listener(reply=reply) as server:
        hears = server._act
        server.script = [lambda body: error(500, "boom") if "stop" in body else hears(body)]
        lm = model(server)
        assert ask(lm, request("a", until="\n\n")) == ["yes"]
        assert ask(lm, request("b", until=["\n\n"])) == ["yes"]
    assert all("stop" not in body for body in server.asked)
    assert lm.get_model_info()["check"]["takes_stop_strings"] is False


def test_thoughts_are_left_out():
    with Listener(reply=lambda body: "hm B</think> A") as server:
        assert ask(model(server, think_end_token="</think>"), request("a")) == ["A"]
