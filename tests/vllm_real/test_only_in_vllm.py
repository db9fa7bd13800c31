"""Families that vLLM has and transformers has not, by their own chat template."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import vllm_own_families
from hf_requests import generate, scores_of
from vllm_real.conftest import ENGINE

from mmaupro_ext.replies import parse_error

CASES = {
    vllm_own_families.fun_audio_chat: {},
    vllm_own_families.moss_audio: {"trust_remote_code": True},
    vllm_own_families.midashenglm: {"trust_remote_code": True},
    vllm_own_families.ultravox: {"trust_remote_code": True},
}


@pytest.fixture(scope="module", params=CASES, ids=lambda make: make.__name__)
def lm(request, tmp_path_factory):
    from mmaupro_ext.models.engines.vllm import VLLMAudioLM

    make = request.param
    folder = make(tmp_path_factory.mktemp(make.__name__))
    lm = VLLMAudioLM(folder, **ENGINE | CASES[make], load_format="dummy")
    with pytest.MonkeyPatch.context() as patch:
        loader = "vllm.model_executor.model_loader.dummy_loader.DummyModelLoader.load_weights"
        patch.setattr(loader, lambda _, model, __: vllm_own_families.give_weights(model))
        lm.engine.start({"audio": 3})
    yield lm
    lm.engine.llm.llm_engine.engine_core.shutdown()
    del lm
    gc.collect()


def chat(lm, text):
    return lm.apply_chat_template([{"role": "user", "content": text}])


def test_every_item_is_answered_with_its_tokens_counted(lm, clips):
    questions = [
        generate(chat(lm, "<audio>\nWhat is it?"), clips[1]),
        generate(chat(lm, "<audio><audio>\nWhich is higher?"), clips[2], clips[3]),
        generate(chat(lm, "<audio>\nWhat happens?"), clips[4]),
        generate(chat(lm, "Hello?")),
    ]
    replies = lm.generate_until(questions, disable_tqdm=True)
    assert all(parse_error(reply) is None for reply in replies)
    one, two, long = (reply.heard for reply in replies[:3])
    assert (one["windows"], two["windows"], long["windows"]) == (1, 2, 3)
    # Three seconds, three and a half in two clips, 66 in three windows: each clip rounds once.
    a_second = one["audio_tokens"] / 3
    assert a_second > 1
    assert two["audio_tokens"] == pytest.approx(3.5 * a_second, abs=2)
    assert long["audio_tokens"] == pytest.approx(66 * a_second, abs=3 + 66 / 3)


def test_the_model_hears_each_clip_in_its_order(lm, clips):
    def scores(text, *numbers):
        found = scores_of(lm, chat(lm, text), [clips[number] for number in numbers])
        assert np.isfinite(found).all()
        return np.array(found)

    # What float32 makes of the same numbers in another order stays below 1e-5 here.
    different = 1e-4
    one = "<audio>\nWhat is it?"
    assert np.abs(scores(one, 1) - scores(one, 3)).max() > different
    two = "<audio><audio>\nWhich is higher?"
    assert np.abs(scores(two, 2, 3) - scores(two, 3, 2)).max() > different
    np.testing.assert_allclose(scores(two, 2, 3), scores(two, 2, 3), atol=1e-5)
