"""family=FILE.py: a description that a user writes, the example among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import parse_error

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_family.py"
RATE = 16_000


@pytest.fixture(scope="module")
def load(checkpoint_of):
    from mmaupro_ext.models.hf.model import HFAudioLM

    folder = checkpoint_of("qwen2_audio")
    return lambda **arguments: HFAudioLM(folder, device="cpu", batch_size=2, **arguments)


def ask(lm, *sounds):
    from lm_eval.api.instance import Instance

    noise = np.random.default_rng(0)
    audio = [
        {"array": noise.normal(0, 0.1, int(s * RATE)).astype(np.float32), "sampling_rate": RATE}
        for s in sounds
    ]
    context = lm.apply_chat_template(
        [{"role": "user", "content": "<audio>" * len(sounds) + "What?"}]
    )
    arguments = (context, {"until": [], "max_gen_toks": 6}, {"audio": audio})
    return Instance("generate_until", {}, arguments, 0)


def test_the_documented_example_gives_the_answers_of_the_description_here(load):
    described, own = load(), load(family=str(EXAMPLE))
    assert own.family.loading.encode is not None
    assert own.frontend == "native"
    requests = [(2.0,), (1.0, 3.0), (45.0,)]
    replies = [
        lm.generate_until([ask(lm, *sounds) for sounds in requests], disable_tqdm=True)
        for lm in (described, own)
    ]
    assert all(parse_error(reply) is None for reply in replies[0])
    assert replies[0] == replies[1]
    assert [reply.heard["windows"] for reply in replies[1]] == [1, 2, 2]


def test_answers_of_another_file_are_those_of_another_model(load, tmp_path):
    other = tmp_path / "family.py"
    other.write_text(EXAMPLE.read_text() + "\n# changed\n")
    identities = [load(family=str(path)).identity() for path in (EXAMPLE, EXAMPLE, other)]
    assert identities[0] == identities[1] != identities[2]


def test_a_class_of_the_file_can_load_the_model(load, tmp_path):
    """What config.json calls it is no name in transformers then."""
    code = EXAMPLE.read_text().replace('loader="Qwen2AudioForConditionalGeneration"', "loader=Mine")
    code = (
        "import transformers\n"
        "class Mine(transformers.Qwen2AudioForConditionalGeneration):\n    pass\n" + code
    )
    path = tmp_path / "family.py"
    path.write_text(code)
    assert type(load(family=str(path)).model).__name__ == "Mine"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "no Python file"),
        ("FAMILIE = 1", "has no FAMILY"),
        ("FAMILY = 1", "has no FAMILY"),
        ("x = 1\n1 / 0", "ZeroDivisionError.*line 2"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_file_that_describes_nothing_is_refused_by_name(load, tmp_path, code, said):
    path = tmp_path / "mine.py"
    if code is not None:
        path.write_text(code)
    with pytest.raises(ConfigError, match=said) as caught:
        load(family=str(path))
    assert "family=" in str(caught.value)


def test_a_file_for_another_type_of_models_is_refused(load, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(EXAMPLE.read_text().replace('("qwen2_audio",)', '("qwen2_audia",)'))
    with pytest.raises(ConfigError, match="qwen2_audia.*'qwen2_audio'.*model_types"):
        load(family=str(path))


def test_a_file_of_another_kind_is_refused(load, tmp_path):
    (tmp_path / "family.json").write_text("{}")
    with pytest.raises(ConfigError, match="no Python file"):
        load(family=str(tmp_path / "family.json"))
