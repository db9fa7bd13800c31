"""Embedders: NV-Embed by hand in float64, batches, truncation, other models, and the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
import transformers
from logged_runs import score, write_run
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import checkpoints, nv_embed, token_embedder
from mmaupro_ext.offline.embedders import (
    CachedEmbedder,
    NVEmbedEmbedder,
    SentenceEmbedder,
    TokenEmbedder,
    load_embedder,
)
from mmaupro_ext.scoring.closed_official import Embedder
from mmaupro_ext.scoring.errors import ScoringError

TEXTS = [
    "Coffee",
    "",
    "b",
    "A dog barks, then a car passes.",
    "The answer is (B) green tea, because the waiter says so in the second half of the clip.",
    "  Coffee\n",
    "coffee",
]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,()\n"
SPECIAL = ["<unk>", "<s>", "</s>"]

WIDTH, LAYERS, HEADS, KV_HEADS, INNER, LATENTS, CROSS_HEADS = 32, 2, 4, 2, 48, 6, 2
ROPE_THETA, RMS_EPS = 10000.0, 1e-5


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- a small checkpoint in the layout of NV-Embed-v2 ---------------------------------------------


def nv_config() -> dict[str, Any]:
    return {
        "model_type": "nvembed",
        "architectures": ["NVEmbedModel"],
        "auto_map": {"AutoModel": "modeling_nvembed.NVEmbedModel"},
        "add_eos": True,
        "add_pad_token": True,
        "is_mask_instruction": True,
        "mask_type": "b",
        "padding_side": "right",
        "text_config": {
            "_name_or_path": "nvidia/NV-Embed-v2",
            "model_type": "bidir_mistral",
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KV_HEADS,
            "rms_norm_eps": RMS_EPS,
            "sliding_window": 4,
            "torch_dtype": "float32",
            "vocab_size": len(SPECIAL) + len(LETTERS),
        },
        "latent_attention_config": {
            "model_type": "latent_attention",
            "num_latents_value": LATENTS,
            "num_cross_heads": CROSS_HEADS,
            "cross_dim_head": WIDTH,
            "hidden_dim": WIDTH,
            "latent_dim": WIDTH,
            "output_normalize": True,
        },
    }


def nv_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names of the release, written down apart from the package."""
    head = WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "embedding_model.embed_tokens.weight": (len(SPECIAL) + len(LETTERS), WIDTH),
        "embedding_model.norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        prefix = f"embedding_model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (WIDTH,),
            f"{prefix}.post_attention_layernorm.weight": (WIDTH,),
            f"{prefix}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{prefix}.self_attn.k_proj.weight": (KV_HEADS * head, WIDTH),
            f"{prefix}.self_attn.v_proj.weight": (KV_HEADS * head, WIDTH),
            f"{prefix}.self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{prefix}.mlp.gate_proj.weight": (INNER, WIDTH),
            f"{prefix}.mlp.up_proj.weight": (INNER, WIDTH),
            f"{prefix}.mlp.down_proj.weight": (WIDTH, INNER),
        }
    prefix = "latent_attention_model"
    cross = CROSS_HEADS * WIDTH
    return shapes | {
        f"{prefix}.latents": (LATENTS, WIDTH),
        f"{prefix}.cross_attend_blocks.0.norm.weight": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.norm.bias": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.norm_context.weight": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.norm_context.bias": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.fn.to_q.weight": (cross, WIDTH),
        f"{prefix}.cross_attend_blocks.0.fn.to_kv.weight": (2 * cross, WIDTH),
        f"{prefix}.cross_attend_blocks.0.fn.to_out.weight": (WIDTH, cross),
        f"{prefix}.cross_attend_blocks.1.norm.weight": (WIDTH,),
        f"{prefix}.cross_attend_blocks.1.norm.bias": (WIDTH,),
        f"{prefix}.cross_attend_blocks.1.fn.net.0.weight": (8 * WIDTH, WIDTH),
        f"{prefix}.cross_attend_blocks.1.fn.net.0.bias": (8 * WIDTH,),
        f"{prefix}.cross_attend_blocks.1.fn.net.2.weight": (WIDTH, 4 * WIDTH),
        f"{prefix}.cross_attend_blocks.1.fn.net.2.bias": (WIDTH,),
    }


def write_tokenizer(folder: Path) -> None:
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 10**30,
        "tokenizer_class": "LlamaTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def random_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    weights = {}
    for name, shape in nv_shapes().items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            # Norms near 1, biases away from 0, so that leaving one out shows.
            values = values * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        elif not name.endswith(("embed_tokens.weight", "latents")):
            values = values * 1.5 / math.sqrt(shape[1])
        weights[name] = values.to(torch.float16)  # the release stores half precision
    return weights


@pytest.fixture(scope="module")
def nv_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nv") / "NV-Embed-v2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(nv_config()))
    write_tokenizer(folder)
    weights = random_weights()
    names = sorted(weights)
    half = len(names) // 2
    save_file({n: weights[n] for n in names[:half]}, folder / "model-00001-of-00002.safetensors")
    save_file({n: weights[n] for n in names[half:]}, folder / "model-00002-of-00002.safetensors")
    return folder


@pytest.fixture(scope="module")
def nv(nv_folder: Path) -> NVEmbedEmbedder:
    return NVEmbedEmbedder(nv_folder, device="cpu")


@pytest.fixture
def nv_copy(nv_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in nv_folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


# --- the same model by hand, float64, one text at a time -----------------------------------------


def token_ids(text: str) -> list[int]:
    return [1, *(len(SPECIAL) + LETTERS.index(letter) for letter in text), 2]


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def rms_norm(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return values / np.sqrt((values**2).mean(axis=-1, keepdims=True) + RMS_EPS) * weight


def layer_norm(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias


def rotate(vectors: np.ndarray) -> np.ndarray:
    """Turn pair (i, i + half) of the vector at position p by p / theta^(i / half)."""
    half = vectors.shape[1] // 2
    turned = vectors.copy()
    for position in range(len(vectors)):
        for i in range(half):
            angle = position / ROPE_THETA ** (i / half)
            x, y = vectors[position, i], vectors[position, i + half]
            turned[position, i] = x * math.cos(angle) - y * math.sin(angle)
            turned[position, i + half] = y * math.cos(angle) + x * math.sin(angle)
    return turned


def self_attention(x: np.ndarray, w: Callable[[str], np.ndarray], causal: bool) -> np.ndarray:
    head = WIDTH // HEADS
    heads = []
    for h in range(HEADS):
        shared = h // (HEADS // KV_HEADS)
        q = rotate(x @ w("q_proj.weight")[h * head : (h + 1) * head].T)
        k = rotate(x @ w("k_proj.weight")[shared * head : (shared + 1) * head].T)
        v = x @ w("v_proj.weight")[shared * head : (shared + 1) * head].T
        weights = q @ k.T / math.sqrt(head)
        if causal:
            weights = np.where(np.tril(np.ones_like(weights)) > 0, weights, -np.inf)
        heads.append(softmax(weights) @ v)
    return np.concatenate(heads, axis=1) @ w("o_proj.weight").T


def embed_by_hand(
    weights: dict[str, np.ndarray], ids: Sequence[int], causal: bool = False
) -> np.ndarray:
    x = weights["embedding_model.embed_tokens.weight"][list(ids)]
    for layer in range(LAYERS):
        prefix = f"embedding_model.layers.{layer}."
        normed = rms_norm(x, weights[f"{prefix}input_layernorm.weight"])
        x = x + self_attention(
            normed, lambda name, at=prefix: weights[f"{at}self_attn.{name}"], causal
        )
        normed = rms_norm(x, weights[f"{prefix}post_attention_layernorm.weight"])
        gate = normed @ weights[f"{prefix}mlp.gate_proj.weight"].T
        up = normed @ weights[f"{prefix}mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{prefix}mlp.down_proj.weight"].T
    x = rms_norm(x, weights["embedding_model.norm.weight"])

    def w(name: str) -> np.ndarray:
        return weights[f"latent_attention_model.{name}"]

    block = "cross_attend_blocks.0"
    q = layer_norm(x, w(f"{block}.norm.weight"), w(f"{block}.norm.bias"))
    q = q @ w(f"{block}.fn.to_q.weight").T
    context = layer_norm(
        w("latents"), w(f"{block}.norm_context.weight"), w(f"{block}.norm_context.bias")
    )
    k, v = np.split(context @ w(f"{block}.fn.to_kv.weight").T, 2, axis=1)
    heads = []
    for h in range(CROSS_HEADS):
        part = slice(h * WIDTH, (h + 1) * WIDTH)
        heads.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(WIDTH)) @ v[:, part])
    x = x + np.concatenate(heads, axis=1) @ w(f"{block}.fn.to_out.weight").T
    block = "cross_attend_blocks.1"
    y = layer_norm(x, w(f"{block}.norm.weight"), w(f"{block}.norm.bias"))
    y = y @ w(f"{block}.fn.net.0.weight").T + w(f"{block}.fn.net.0.bias")
    value, gate = np.split(y, 2, axis=1)
    gelu = np.vectorize(lambda t: t * 0.5 * (1 + math.erf(t / math.sqrt(2))))
    x = x + (value * gelu(gate)) @ w(f"{block}.fn.net.2.weight").T + w(f"{block}.fn.net.2.bias")
    pooled = x.mean(axis=0)
    return pooled / np.linalg.norm(pooled)


@pytest.fixture(scope="module")
def by_hand(nv_folder: Path) -> dict[str, np.ndarray]:
    weights = {}
    for file in nv_folder.glob("*.safetensors"):
        weights |= load_file(file)
    return {name: tensor.double().numpy() for name, tensor in weights.items()}


# --- NV-Embed ------------------------------------------------------------------------------------


def test_nv_embed_equals_the_model_by_hand(nv: NVEmbedEmbedder, by_hand) -> None:
    expected = np.stack([embed_by_hand(by_hand, token_ids(text)) for text in TEXTS])
    found = nv.encode(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (len(TEXTS), WIDTH)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-6)


def test_nv_embed_tokens_see_what_follows_them(nv: NVEmbedEmbedder, by_hand) -> None:
    text = TEXTS[3]
    causal = embed_by_hand(by_hand, token_ids(text), causal=True)
    assert np.abs(nv.encode([text])[0] - causal).max() > 1e-2


def test_nv_embed_batches_equal_one_text_at_a_time(nv_folder: Path, by_hand) -> None:
    texts = TEXTS + [f"{a} {b}" for a in TEXTS for b in TEXTS]
    single = np.concatenate(
        [NVEmbedEmbedder(nv_folder, device="cpu", batch_size=1).encode([text]) for text in texts]
    )
    batched = NVEmbedEmbedder(nv_folder, device="cpu", batch_size=16).encode(texts)
    np.testing.assert_allclose(batched, single, rtol=0, atol=1e-5)
    ours, theirs = batched @ batched.T, single @ single.T
    np.fill_diagonal(ours, -2)
    np.fill_diagonal(theirs, -2)
    # Equal texts tie, and a tie is decided by position; all others by more than rounding.
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).all()


def test_a_row_keeps_its_bytes_in_other_company(nv: NVEmbedEmbedder) -> None:
    everyone = nv.encode(TEXTS)
    backwards = nv.encode(TEXTS[::-1])[::-1]
    assert everyone.tobytes() == backwards.tobytes()
    for text, row in zip(TEXTS, everyone, strict=True):
        assert nv.encode([text])[0].tobytes() == row.tobytes()


def test_shape_of_a_batch_follows_from_its_own_lengths() -> None:
    def shapes(lengths: list[int]) -> dict[int, tuple[int, int]]:
        sequences = [(i,) * length for i, length in enumerate(lengths)]
        found = {}
        for batch, padded in token_embedder.batches(sequences, 16, 5000):
            assert max(map(len, batch)) <= padded
            found |= {len(sequence): (len(batch), padded) for sequence in batch}
        return found

    lengths = [1, 8, 9, 30, 100, 900, 3000, 4096, 4999]
    crowd = shapes([length for length in lengths for _ in range(37)])
    assert crowd == {length: shapes([length])[length] for length in lengths}
    # On real models the number of rows decides how a matrix product rounds.
    assert crowd[1] == crowd[8] == (16, 8)
    assert crowd[4096] == (2, 4096)
    assert crowd[4999] == (1, 4999)


def test_nv_embed_loads_on_first_use_only(nv_copy: Path) -> None:
    embedder = NVEmbedEmbedder(nv_copy, device="cpu")
    for file in nv_copy.glob("*.safetensors"):
        file.unlink()
    assert embedder.cut_tokens(["abc"]) == [0]
    with pytest.raises(OSError, match="safetensors"):
        embedder.encode(["abc"])


def test_nv_embed_says_what_it_cuts(nv_folder: Path, by_hand, caplog) -> None:
    embedder = NVEmbedEmbedder(nv_folder, device="cpu", max_length=8)
    texts = ["short", "exactly", "a reply of many words"]
    assert embedder.cut_tokens(texts) == [0, 1, 15]
    with caplog.at_level(logging.WARNING):
        found = embedder.encode(texts)
    assert "8 tokens a text at most: 2 of 3 texts" in caplog.text
    # The end token is cut with the rest, as the released evaluator's tokenizer does.
    expected = np.stack([embed_by_hand(by_hand, token_ids(text)[:8]) for text in texts])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert not embedder.official
    assert "max_length 8" in embedder.label
    assert embedder.details()["max_length"] == 8


def test_nv_embed_long_text_in_a_batch_with_short_ones(nv: NVEmbedEmbedder, by_hand) -> None:
    long = "The quick brown fox jumps. " * 30
    found = nv.encode(["b", long, "c"])
    for row, text in zip(found, ["b", long, "c"], strict=True):
        np.testing.assert_allclose(row, embed_by_hand(by_hand, token_ids(text)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_nv_embed_other_precisions_are_close_and_labelled(
    nv: NVEmbedEmbedder, nv_folder: Path, precision: str
) -> None:
    other = NVEmbedEmbedder(nv_folder, device="cpu", precision=precision)
    cosines = (other.encode(TEXTS) * nv.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.999
    assert cosines.min() < 1 - 1e-7, "the precision made no difference at all"
    assert not other.official
    assert precision in other.label
    assert other.details()["computed_in"] == precision
    assert other.identity != nv.identity


def test_half_weights_under_autocast_are_the_same_numbers(nv_folder: Path) -> None:
    ids = torch.tensor([token_ids(TEXTS[3])])
    mask = torch.ones_like(ids)
    found = []
    for halve in (False, True):
        embedder = NVEmbedEmbedder(nv_folder, device="cpu")
        embedder.encode(["load"])
        embedder._pooling._keys_values = None
        if halve:
            for name, parameter in embedder._decoder.named_parameters():
                if nv_embed.is_matrix_product(name):
                    parameter.data = parameter.data.half()
            for name, weight in embedder._pooling._weights.items():
                if nv_embed.is_matrix_product(name):
                    embedder._pooling._weights[name] = weight.half()
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.float16):
            found.append(embedder._embed(ids, mask))
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], found[1])


def test_nv_embed_of_the_released_sizes_is_the_official_one() -> None:
    settings = nv_embed.read_settings({"model_type": "nvembed", "text_config": {}}, "x")
    assert settings.released_sizes
    shapes = nv_embed.pooling_shapes(settings)
    assert shapes["cross_attend_blocks.0.fn.to_kv.weight"] == (65536, 4096)
    assert shapes["cross_attend_blocks.1.fn.net.0.weight"] == (32768, 4096)
    small = nv_embed.read_settings(nv_config(), "x")
    assert not small.released_sizes
    with accelerate.init_empty_weights():
        decoder = transformers.MistralModel(transformers.MistralConfig(**settings.decoder))
    assert sum(p.numel() for p in decoder.parameters()) == 7_110_660_096


def released_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, **digests: str) -> Path:
    """Make a folder whose settings and digests are the release's, with no weights in it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "nvembed"}))
    write_tokenizer(folder)
    for name in nv_embed.RELEASED_WEIGHTS:
        (folder / name).write_bytes(name.encode())
    known = {**nv_embed.RELEASED_WEIGHTS, **digests}
    digest = checkpoints._content_sha256
    monkeypatch.setattr(
        checkpoints, "_content_sha256", lambda file: known.get(file.name) or digest(file)
    )
    return folder


def test_released_weights_as_released_are_official_anything_else_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = released_checkpoint(tmp_path / "a", monkeypatch)
    embedder = NVEmbedEmbedder(folder, device="cpu")
    assert embedder.official
    assert embedder.label == "NV-Embed-v2, set up as in the released evaluator"
    other = NVEmbedEmbedder(folder, device="cpu", precision="bfloat16", max_length=512)
    assert not other.official
    assert other.label.endswith("precision bfloat16; max_length 512")
    changed = released_checkpoint(
        tmp_path / "b", monkeypatch, **{"model-00004-of-00004.safetensors": "0" * 64}
    )
    tuned = NVEmbedEmbedder(changed, device="cpu")
    assert not tuned.official
    assert "weights other than those published" in tuned.label


def test_digest_of_weights_is_read_or_taken_from_the_hub_cache(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    assert checkpoints._content_sha256(file) == hashlib.sha256(b"weights").hexdigest()
    blob = tmp_path / ("ab" * 32)
    blob.write_bytes(b"anything")
    link = tmp_path / "link.safetensors"
    link.symlink_to(blob)
    assert checkpoints._content_sha256(link) == "ab" * 32


def test_nv_embed_of_other_sizes_does_not_call_itself_official(nv: NVEmbedEmbedder) -> None:
    assert not nv.official
    assert "sizes other than" in nv.label
    assert nv.details()["computed_in"] == "float32"
    assert isinstance(nv, TokenEmbedder)
    assert isinstance(nv, Embedder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="mistral"), "'mistral', not 'nvembed'"),
        (lambda c: c.update(padding_side="left"), "padding_side = 'left'"),
        (lambda c: c.update(mask_type="c"), "mask_type = 'c'"),
        (lambda c: c["text_config"].update(rope_scaling={"factor": 2}), "rope_scaling"),
        (lambda c: c["latent_attention_config"].update(latent_dim=64), "latent_dim = 64"),
    ],
)
def test_nv_embed_refuses_settings_that_it_does_not_build(change, message: str) -> None:
    config = nv_config()
    change(config)
    with pytest.raises(ConfigError, match=message):
        nv_embed.read_settings(config, "somewhere")


def damage_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    for file in sorted(folder.glob("*.safetensors")):
        weights = load_file(file)
        change(weights)
        file.unlink()
        save_file(weights, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("latent_attention_model.latents", None), "lacks latent_attention_model"),
        (lambda w: w.pop("embedding_model.norm.weight", None), "lacks embedding_model.norm"),
        (lambda w: w.update({"lm_head.weight": torch.ones(2)}), "has no lm_head.weight"),
        (lambda w: shorten(w, "latent_attention_model.latents"), "asks for"),
        (lambda w: shorten(w, "embedding_model.layers.1.mlp.up_proj.weight"), "do not fit config"),
    ],
)
def test_nv_embed_refuses_weights_that_do_not_fit(nv_copy: Path, change, message: str) -> None:
    damage_weights(nv_copy, change)
    with pytest.raises(ConfigError, match=message):
        NVEmbedEmbedder(nv_copy, device="cpu").encode(["x"])


def shorten(weights: dict[str, torch.Tensor], name: str) -> None:
    if name in weights:
        weights[name] = weights[name][:-1].clone()


def test_nv_embed_ignores_the_rotary_table_of_older_checkpoints(nv_copy: Path, nv) -> None:
    table = "embedding_model.layers.0.self_attn.rotary_emb.inv_freq"
    damage_weights(nv_copy, lambda w: w.update({table: torch.ones(4)}))
    assert (NVEmbedEmbedder(nv_copy, device="cpu").encode(TEXTS) == nv.encode(TEXTS)).all()


def test_nv_embed_without_finite_numbers_names_the_text(nv_copy: Path) -> None:
    damage_weights(
        nv_copy, lambda w: [v.fill_(float("nan")) for k, v in w.items() if k.endswith("latents")]
    )
    with pytest.raises(ScoringError, match="no usable vector for the text 'Coffee'"):
        NVEmbedEmbedder(nv_copy, device="cpu").encode(["Coffee"])


def test_no_texts_and_texts_that_are_none(nv: NVEmbedEmbedder) -> None:
    assert nv.encode([]).shape == (0, 0)
    with pytest.raises(ScoringError, match="text 1 to embed is NoneType"):
        nv.encode(["a", None])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision='int4' is unknown"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_length": 1}, "max_length"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"pooling": "mean"}, "pooling"),
    ],
)
def test_wrong_options_are_refused_by_name(nv_folder: Path, options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_embedder(nv_folder, **options)


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
