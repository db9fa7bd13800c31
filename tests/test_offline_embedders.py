"""Embedders: which class a checkpoint gets, sentence embedders, the store of vectors, the whole command."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logged_runs import score, write_run
from nv_embed_standin import TEXTS, damage_weights, write_checkpoint

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.embedders import (
    CachedEmbedder,
    NVEmbedEmbedder,
    SentenceEmbedder,
    TokenEmbedder,
    load_embedder,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def nv_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("nv") / "NV-Embed-v2")


@pytest.fixture
def nv_copy(nv_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nv_folder, tmp_path / "copy"))


# --- checkpoints ---------------------------------------------------------------------------------


def test_a_missing_folder_and_a_folder_without_weights(tmp_path: Path, nv_copy: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_embedder(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_embedder(tmp_path)
    for file in nv_copy.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ConfigError, match="no weights"):
        load_embedder(nv_copy)


def test_hub_that_cannot_be_reached_says_how_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="hf download nvidia/NV-Embed-v2 --local-dir FOLDER"):
        load_embedder()


def test_identity_follows_content_not_place(nv_folder: Path, nv_copy: Path) -> None:
    first = NVEmbedEmbedder(nv_folder, device="cpu").identity
    assert NVEmbedEmbedder(nv_copy, device="cpu").identity == first
    damage_weights(nv_copy, lambda w: [v.add_(1) for v in w.values()])
    assert NVEmbedEmbedder(nv_copy, device="cpu").identity != first


def test_importing_the_scorers_takes_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, mmaupro_ext.offline.embedders, mmaupro_ext.scoring.closed_official;"
        "print(sorted({'torch', 'transformers', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- other sentence embedders --------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "coffee", "tea", "dog"]
    words += ["the", "answer", "is"]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=40
    )
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def say_pooling(folder: Path, target: Path, pooling: dict[str, Any], *extra: str) -> Path:
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), *((kind, kind) for kind in extra)]
    modules = [{"type": f"sentence_transformers.models.{k}", "path": p} for k, p in kinds]
    (target / "modules.json").write_text(json.dumps(modules))
    (target / "1_Pooling").mkdir()
    (target / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return target


SENTENCES = ["coffee", "the answer is tea", "", "a dog b c the the dog is a tea coffee", "Coffee"]


@pytest.mark.parametrize(
    ("stated", "mode"),
    [
        (None, "mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_sentence_embedder_pools_as_the_folder_says(
    bert_folder: Path, tmp_path: Path, stated: dict[str, Any] | None, mode: str
) -> None:
    import torch
    import transformers

    folder = bert_folder if stated is None else say_pooling(bert_folder, tmp_path, stated)
    embedder = SentenceEmbedder(folder, device="cpu")
    assert embedder.pooling == mode
    model = transformers.AutoModel.from_pretrained(folder).eval()
    expected = []
    for text in SENTENCES:
        inputs = embedder.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = model(input_ids=inputs["input_ids"]).last_hidden_state[0].double()
        pooled = {"mean": hidden.mean(0), "cls": hidden[0], "lasttoken": hidden[-1]}.get(
            mode, hidden.amax(0)
        )
        expected.append((pooled / pooled.norm()).numpy())
    np.testing.assert_allclose(embedder.encode(SENTENCES), np.stack(expected), rtol=0, atol=1e-5)
    assert not embedder.official
    assert embedder.label.endswith(f"({mode} pooling), not official")


def test_sentence_embedder_refuses_steps_and_poolings_it_does_not_build(
    bert_folder: Path, tmp_path: Path
) -> None:
    for name, pooling, extra, message in [
        ("dense", {"pooling_mode_mean_tokens": True}, ["Dense"], "a Dense step"),
        ("sqrt", {"pooling_mode_mean_sqrt_len_tokens": True}, [], "mean_sqrt_len"),
        ("two", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, [], "cls_tok"),
    ]:
        (tmp_path / name).mkdir()
        folder = say_pooling(bert_folder, tmp_path / name, pooling, *extra)
        with pytest.raises(ConfigError, match=message):
            SentenceEmbedder(folder, device="cpu")


def test_sentence_embedder_takes_length_and_case_from_the_folder(
    bert_folder: Path, tmp_path: Path
) -> None:
    folder = say_pooling(bert_folder, tmp_path, {"pooling_mode_mean_tokens": True})
    assert SentenceEmbedder(folder, device="cpu").max_length == 40
    settings = {"max_seq_length": 5, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    embedder = SentenceEmbedder(folder, device="cpu")
    assert embedder.cut_tokens(["tea", "the answer is tea"]) == [0, 1]
    upper, lower = embedder.encode(["COFFEE", "coffee"])
    assert upper.tobytes() == lower.tobytes()


def test_sentence_embedder_fills_its_table_of_positions(bert_folder: Path) -> None:
    # 40 positions, but the next padded length would be 48.
    embedder = SentenceEmbedder(bert_folder, device="cpu")
    assert np.isfinite(embedder.encode(["tea " * 60, "coffee"])).all()
    assert embedder.cut_tokens(["tea " * 60]) == [22]


def test_load_embedder_tells_nv_embed_from_the_rest(nv_folder: Path, bert_folder: Path) -> None:
    assert isinstance(load_embedder(nv_folder, device="cpu"), NVEmbedEmbedder)
    assert isinstance(load_embedder(bert_folder, device="cpu"), SentenceEmbedder)
    with pytest.raises(ConfigError, match="is NV-Embed"):
        SentenceEmbedder(nv_folder, device="cpu")


# --- the cache -----------------------------------------------------------------------------------


class Counting:
    """Embeds a text as a few numbers made of its letters, and counts."""

    name, label, official = "counting", "counting, not official", False

    def __init__(self, identity: str = "one") -> None:
        self.identity = identity
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        rows = [[len(t) + 1, sum(map(ord, t)), len(self.identity)] for t in texts]
        values = np.array(rows, dtype=np.float32).reshape(len(texts), 3)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    def cut_tokens(self, texts: Sequence[str]) -> list[int]:
        return [max(0, len(text) - 10) for text in texts]

    def details(self) -> dict[str, Any]:
        return {"name": self.name}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def test_cache_gives_the_bytes_of_the_model_and_asks_once(store: Path) -> None:
    plain = Counting().encode(TEXTS).tobytes()
    first = CachedEmbedder(Counting(), store)
    assert first.encode([*TEXTS, TEXTS[0]]).tobytes()[: len(plain)] == plain
    assert first.embedder.asked == TEXTS
    again = CachedEmbedder(Counting(), store)
    assert again.encode(TEXTS).tobytes() == plain
    assert again.embedder.asked == []
    assert (again.hits, again.misses) == (len(TEXTS), 0)
    assert (
        again.encode([*TEXTS[:2], "new"]).tobytes()
        == Counting().encode([*TEXTS[:2], "new"]).tobytes()
    )
    assert again.embedder.asked == ["new"]
    assert again.cut_tokens(["twelve chars"]) == [2]
    assert again.details() == {"name": "counting"}
    assert isinstance(again, TokenEmbedder)


def test_cache_of_a_real_model_needs_no_weights_the_second_time(
    nv_copy: Path, tmp_path: Path
) -> None:
    cold = load_embedder(nv_copy, device="cpu", store=tmp_path / "c").encode(TEXTS)
    warm = load_embedder(nv_copy, device="cpu", store=tmp_path / "c")
    for file in nv_copy.glob("*.safetensors"):
        file.unlink()
    assert warm.encode(TEXTS).tobytes() == cold.tobytes()


def test_cache_filled_by_other_texts_gives_the_same_bytes(nv_folder: Path, tmp_path: Path) -> None:
    plain = load_embedder(nv_folder, device="cpu").encode(TEXTS)
    load_embedder(nv_folder, device="cpu", store=tmp_path / "c").encode(TEXTS[::2])
    mixed = load_embedder(nv_folder, device="cpu", store=tmp_path / "c").encode(TEXTS)
    assert mixed.tobytes() == plain.tobytes()


def test_cache_keeps_models_apart(store: Path) -> None:
    CachedEmbedder(Counting("one"), store).encode(["tea"])
    other = CachedEmbedder(Counting("three"), store)
    assert other.encode(["tea"]).tobytes() == Counting("three").encode(["tea"]).tobytes()
    assert other.embedder.asked == ["tea"]


def test_damaged_entry_is_computed_again(store: Path, caplog) -> None:
    CachedEmbedder(Counting(), store).encode(["tea"])
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE entries SET value = X'00'")
    connection.close()
    for asked in (["tea"], []):
        again = CachedEmbedder(Counting(), store)
        assert again.encode(["tea"]).tobytes() == Counting().encode(["tea"]).tobytes()
        assert again.embedder.asked == asked
    assert "damaged" in caplog.text


def test_cache_stays_within_its_bound(store: Path) -> None:
    texts = [f"text {i}" for i in range(20)]
    cache = CachedEmbedder(Counting(), store, max_bytes=10 * 3 * 4)
    for text in texts:
        cache.encode([text])
    assert 8 <= cache.store.count("embedding") <= 10
    assert cache.encode(texts).tobytes() == Counting().encode(texts).tobytes()


def test_cache_in_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="embeddings cannot be kept there"):
        CachedEmbedder(Counting(), tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="max_bytes"):
        CachedEmbedder(Counting(), tmp_path / "store", max_bytes=0)


def test_cache_takes_text_that_utf_8_cannot_hold(store: Path) -> None:
    cache = CachedEmbedder(Counting(), store)
    assert cache.encode(["\ud800"]).tobytes() == cache.encode(["\ud800"]).tobytes()
    assert cache.encode([]).shape[0] == 0


# --- the whole command ---------------------------------------------------------------------------


def test_a_logged_run_is_scored_with_nv_embed_from_end_to_end(
    nv_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = write_run(tmp_path / "m", reply=lambda doc: doc["answer"] or "")
    command = [run, "--preset", "official", "--embedder", nv_folder, "--items", tmp_path / "items"]
    assert score(*command) == 0
    (file,) = run.glob("scores_official*.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    # The answer word for word is nearest to itself, whatever the weights; these are not the release's.
    assert result["categories"]["sound"]["score"] == 100.0
    assert result["embedder"]["official"] is False
    items = [json.loads(line) for line in (tmp_path / "items").read_text().splitlines()]
    sound = [item for item in items if item["category"] == "sound"]
    assert len(sound) == 13
    for item in sound:
        scores = item["details"]["scores"]
        assert max(scores) == pytest.approx(100, abs=1e-3)
        assert item["details"]["chosen"] == item["details"]["answer"]
    before = file.read_bytes()
    assert score(*command) == 0  # from the cache of embeddings
    assert file.read_bytes() == before
