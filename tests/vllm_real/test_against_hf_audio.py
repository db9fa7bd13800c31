"""vllm-audio on a real vLLM against hf-audio: replies and log-likelihoods of one family after the other."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vllm_checkpoints
from hf_requests import generate, score
from vllm_real.conftest import ENGINE

from mmaupro_ext.data.conditions import CONDITIONS, alters_sound, sound_of
from mmaupro_ext.replies import parse_error


@dataclass(frozen=True)
class Case:
    """One family on a tiny checkpoint.

    Parameters
    ----------
    builder : str
        In `tests/tiny`.
    engine : dict
        What it needs of vLLM.
    several : bool
        Whether vLLM takes several sounds a prompt of this model.
    sees : bool
        Whether an image is tried.
    plain : bool
        Whether vLLM takes plain prompts of several lines.
    mistral : bool
        Whether prompts are made by Mistral's tokenizer: chats alone, without a system message, as tokens
        after which nothing is scored; the model computes features.
    chats : {"same", "of one clip", "without clips"}
        Which chats are the same text under both.
    """

    builder: str
    engine: dict[str, Any] = field(default_factory=dict)
    several: bool = True
    sees: bool = False
    plain: bool = True
    mistral: bool = False
    chats: str = "same"


MISTRAL = dict.fromkeys(("tokenizer_mode", "config_format", "load_format"), "mistral")

CASES = [
    Case("qwen2_audio"),
    Case("audioflamingo3", {"chat_template_content_format": "openai"}, several=False),
    Case("qwen2_5_omni", sees=True),
    # Their encoders hear the padding of what is encoded together: one prompt at a time.
    Case("qwen3_omni_moe", {"max_num_seqs": 1}),
    # vLLM writes a line break between a sound and the text.
    Case("granite_speech", {"max_num_seqs": 1}, several=False, chats="without clips"),
    # A line break after a sound, and the template that strips each part under vLLM.
    Case("gemma3n", {"max_num_seqs": 1}, sees=True, plain=False, chats="of one clip"),
    Case("voxtral", MISTRAL, plain=False, mistral=True),
]

PLAIN = [
    ("<audio>\nWhat is it?", [0]),
    ("<audio>\nHow many?", [1]),
    ("Hello?", []),
    ("<audio>\nWhat happens?", [4]),
    ("<audio><audio>\nWhich is higher?", [2, 3]),
    ("<audio>\n<audio>\nWhich is higher?", [3, 2]),
]
CHATS = [
    ("<audio>What is it?", [0]),
    ("<audio>How many?", [1]),
    ("Hello?", []),
    ("<audio>What happens?", [4]),
    ("<audio><audio>Which is higher?", [2, 3]),
]
CHOICES = ("A", "B is right", " the first one", "A" * 40)


@dataclass
class Pair:
    """The same checkpoint under both."""

    case: Case
    ours: Any
    local: Any
    folder: str
    options: dict[str, Any]

    def given(self, channels, heard_as):
        """Return the pair with two channels given in one way to vLLM, and in another to hf-audio."""
        ours = under_vllm(self.case, self.folder, **self.options, channels=channels)
        local = under_transformers(self.folder, **self.options, channels=heard_as)
        ours.engine, ours.scorer = self.ours.engine, self.ours.scorer
        return replace(self, ours=ours, local=local)

    def fits(self, chat):
        """Return the questions that vLLM takes of this model."""
        if not chat and not self.case.plain:
            return []
        questions = CHATS if chat else PLAIN
        return questions if self.case.several else [q for q in questions if len(q[1]) < 2]

    def differs(self, numbers, chat):
        """Tell whether what is asked about some clips is another text under vLLM."""
        several = len(numbers) > 1 or 4 in numbers
        other = {"same": False, "of one clip": several, "without clips": bool(numbers)}
        return chat and other[self.case.chats]


def under_vllm(case, folder, **audio):
    """Return the model class for vLLM, which is not started."""
    from mmaupro_ext.models.engines.vllm import VLLMAudioLM

    return VLLMAudioLM(folder, **ENGINE | case.engine | audio, check=False)


def under_transformers(folder, **audio):
    from mmaupro_ext.models.hf.model import HFAudioLM

    return HFAudioLM(folder, device="cpu", batch_size=1, **audio)


@pytest.fixture(scope="module", params=CASES, ids=[case.builder for case in CASES])
def pair(request, tmp_path_factory):
    case = request.param
    folder = vllm_checkpoints.build(case.builder, tmp_path_factory.mktemp(case.builder))
    options = {"long_audio": "windows" if case.several else "native"}
    ours = under_vllm(case, folder, **options)
    most = {"audio": 4 if case.several else 1, "image": int(case.sees)}
    ours.engine.start(most)
    local = under_transformers(folder, **options)
    yield Pair(case, ours, local, folder, options)
    ours.engine.llm.llm_engine.engine_core.shutdown()
    del ours, local
    gc.collect()


def ask(lm, requests):
    return lm.generate_until(requests, disable_tqdm=True)


def whole(reply):
    """Return a reply without a character that has not ended, which vLLM keeps back."""
    return reply.rstrip("\N{REPLACEMENT CHARACTER}")


def rendered(pair, lm, text):
    system = [] if pair.case.mistral else [{"role": "system", "content": "Be brief."}]
    return lm.apply_chat_template([*system, {"role": "user", "content": text}])


def both(pair, questions, clips, make, chat):
    """Return what both say to the same questions."""
    found = []
    for lm in (pair.ours, pair.local):
        requests = [
            made
            for text, numbers in questions
            for made in make(
                rendered(pair, lm, text) if chat else text, [clips[number] for number in numbers]
            )
        ]
        found.append(
            ask(lm, requests)
            if requests[0].request_type == "generate_until"
            else lm.loglikelihood(requests, disable_tqdm=True)
        )
    return found


@pytest.mark.parametrize("chat", [False, True])
def test_replies_are_those_of_hf_audio(pair, clips, chat):
    if not (questions := pair.fits(chat)):
        return
    replies, expected = both(
        pair, questions, clips, lambda text, paths: [generate(text, *paths)], chat
    )
    assert all(parse_error(reply) is None for reply in [*replies, *expected])
    assert len(set(replies)) > 1
    for (_, numbers), reply, other in zip(questions, replies, expected, strict=True):
        if not pair.differs(numbers, chat):
            assert whole(reply) == whole(other)
        if numbers:
            assert reply.heard["audio_tokens"] == other.heard["audio_tokens"]


@pytest.mark.parametrize("chat", [False, True])
def test_log_likelihoods_are_those_of_hf_audio(pair, clips, chat):
    questions = [q for q in pair.fits(chat) if not pair.differs(q[1], chat)]
    if not questions or pair.case.mistral:
        return
    found, wanted = both(
        pair,
        questions,
        clips,
        lambda text, paths: [score(text, choice, *paths) for choice in CHOICES],
        chat,
    )
    values = [value for value, _ in found]
    assert np.isfinite(values).all()
    # float32 in another order of operations.
    assert values == pytest.approx([value for value, _ in wanted], abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]


def test_features_are_computed_by_this_package(pair):
    expected = "stock" if pair.case.mistral else "native"
    assert pair.ours.get_model_info()["frontend"] == expected


def test_more_sounds_than_vllm_takes_are_an_error_that_says_so(pair, clips):
    if pair.case.several:
        return
    (reply,) = ask(pair.ours, [generate("<audio><audio>\nWhich?", *clips[:2])])
    assert "At most 1 audio" in parse_error(reply)["problem"]
    assert "multi_audio=concat" in parse_error(reply)["fix"]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(("channels", "heard_as"), [("stereo", "mono"), ("stereo-as-two",) * 2])
def test_both_channels_of_a_file_are_heard_mixed_or_as_two(pair, clips, channels, heard_as, chat):
    case = pair.case
    # vLLM mixes two channels of this one; Granite Speech refuses them (docs/vllm.md).
    if case.builder != "qwen2_audio" or channels == heard_as and pair.differs([4], chat):
        return
    found, wanted = both(
        pair.given(channels, heard_as),
        [("<audio>What is it?", [5])],
        clips,
        lambda text, paths: [score(text, choice, *paths) for choice in CHOICES],
        chat,
    )
    # float32 in another order of operations.
    assert [v for v, _ in found] == pytest.approx([v for v, _ in wanted], abs=1e-3)


def test_altered_sound_is_heard_as_by_hf_audio(pair, clips):
    """Of one family: the way of sounds to vLLM is the same for all."""
    if pair.case.builder != "qwen2_audio":
        return
    doc = {"id": "q", "condition": {"part": 2, "of": 3}}
    names = [name for name in CONDITIONS if alters_sound(name)]
    told = [sound_of(doc | {"condition": doc["condition"] | {"name": name}}, 0) for name in names]
    found = []
    for lm in (pair.ours, pair.local):
        requests = []
        for condition in (None, *told):
            request = score(rendered(pair, lm, "<audio>\nHow many?"), "A", clips[1])
            request.arguments[2]["audio"][0]["condition"] = condition
            requests.append(request)
        found.append([value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)])
    # float32 in another order of operations; no two sounds are the same, but mono of a clip in mono.
    assert found[0] == pytest.approx(found[1], abs=1e-3)
    assert len({round(value, 3) for value in found[0]}) > len(names) // 2


def test_what_cannot_be_served_is_an_error_with_its_cause_and_costs_no_other(pair, clips, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(Path(clips[1]).read_bytes()[:5000])
    replies = ask(
        pair.ours,
        [
            generate(rendered(pair, pair.ours, "<audio>" + "too long " * 1000), clips[0]),
            generate(rendered(pair, pair.ours, "<audio>What?"), str(broken)),
            generate(rendered(pair, pair.ours, "<audio>What?"), str(tmp_path / "none.wav")),
            generate(rendered(pair, pair.ours, "<audio>What?"), clips[0]),
            generate(rendered(pair, pair.ours, "Hello?")),
        ],
    )
    errors = [parse_error(reply) for reply in replies]
    assert [error is None for error in errors] == [False, False, False, True, True]
    assert "maximum context length" in errors[0]["problem"]
    assert "max_model_len" in errors[0]["fix"]
    assert "broken.wav" in errors[1]["file"]
    assert "none.wav" in errors[2]["file"]


def test_an_image_reaches_the_model(pair, clips):
    if not pair.case.sees:
        return
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    found = []
    for lm in (pair.ours, pair.local):
        context = rendered(pair, lm, "<image>\n<audio>\nDo they belong together?")
        requests = []
        for image in map(Image.fromarray, pixels):
            request = score(context, "A", clips[1])
            request.arguments[2]["visual"] = [image]
            requests.append(request)
        found.append([value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)])
    # The image processors of both are transformers', the model's are not: float32 in another order.
    assert found[0] == pytest.approx(found[1], abs=1e-3)
    assert abs(found[0][0] - found[0][1]) > 1e-2
