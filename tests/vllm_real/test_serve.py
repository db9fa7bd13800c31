"""openai-audio against a real `vllm serve` on loopback, with the tiny Qwen2-Audio."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import vllm_checkpoints
from chat_standin import without_proxy
from hf_requests import generate
from serve_tiny import TinyServer

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import parse_error

OPTIONS = (
    "--dtype",
    "float32",
    "--enforce-eager",
    "--max-model-len",
    "8192",
    "--max-num-seqs",
    "4",
    "--enable-prompt-tokens-details",
)
QUESTIONS = [
    ("<audio>\nWhat is it?", [0]),
    ("<audio>How many?", [1]),
    ("This <audio>or this <audio>\nis higher?", [2, 3]),
    ("<audio>\n<audio>\nWhich is higher?", [3, 2]),
    ("Hello?", []),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    model = vllm_checkpoints.build("qwen2_audio", folder / "tiny-qwen2-audio")
    with pytest.MonkeyPatch.context() as patch:
        without_proxy(patch)
        # In the tests of vllm-audio the engine runs in their process, and says little.
        patch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING")
        patch.delenv("VLLM_LOGGING_LEVEL")
        with TinyServer(model, folder / "log.txt", "vllm", OPTIONS) as running:
            yield running


def ask(lm, requests):
    return lm.generate_until(requests, disable_tqdm=True)


def served(server, **arguments):
    from mmaupro_ext.models.engines.openai import OpenAIAudioLM

    return OpenAIAudioLM(server.url, server.model, max_retries=0, **arguments)


def test_the_served_model_answers_as_the_local_one_does(server, clips):
    from mmaupro_ext.models.hf.model import HFAudioLM

    lm = served(server)
    replies, expected = (
        ask(
            model,
            [
                generate(
                    model.apply_chat_template([{"role": "user", "content": text}]),
                    *(clips[number] for number in numbers),
                )
                for text, numbers in QUESTIONS
            ],
        )
        for model in (lm, HFAudioLM(server.model, device="cpu", batch_size=1))
    )
    assert replies == expected
    assert len(set(replies)) > 1
    for reply, other in zip(replies[:4], expected, strict=False):
        assert reply.heard["audio_tokens"] == other.heard["audio_tokens"] > 0
    assert lm.get_model_info()["check"]["tokens_of_a_second"] >= 25


def test_its_features_are_computed_by_this_package(server):
    assert "mmaupro-ext computes the features of WhisperFeatureExtractor" in server.log.read_text()


def test_a_clip_that_the_server_would_cut_without_a_word_is_found_out(server, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 45 * 16_000)
    soundfile.write(tmp_path / "long.wav", noise, 16_000)
    question = generate("<audio>\nWhat?", str(tmp_path / "long.wav"))
    with pytest.raises(ConfigError, match="45.0 s is not heard whole"):
        ask(served(server, long_audio="native"), [question])
    (reply,) = ask(served(server, long_audio="native", check=False), [question])
    assert parse_error(reply)["problem"] == "the model hears 30 s at once, and was given 45.0 s"
    (reply,) = ask(served(server), [question])
    assert reply.heard["windows"] == 2
