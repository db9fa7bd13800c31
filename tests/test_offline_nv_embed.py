"""NV-Embed-v2: equal to the model by hand, official as released and in no other form."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from nv_embed_standin import (
    TEXTS,
    WIDTH,
    damage_weights,
    embed_by_hand,
    nv_config,
    shorten,
    token_ids,
    weights_in_float64,
    write_checkpoint,
    write_tokenizer,
)

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import checkpoints, nv_embed, token_embedder
from mmaupro_ext.offline.embedders import NVEmbedEmbedder, TokenEmbedder, load_embedder
from mmaupro_ext.scoring.closed_official import Embedder
from mmaupro_ext.scoring.errors import ScoringError


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


@pytest.fixture(scope="module")
def nv(nv_folder: Path) -> NVEmbedEmbedder:
    return NVEmbedEmbedder(nv_folder, device="cpu")


@pytest.fixture(scope="module")
def by_hand(nv_folder: Path) -> dict[str, np.ndarray]:
    return weights_in_float64(nv_folder)


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
    import torch

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
    import accelerate
    import transformers

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("latent_attention_model.latents", None), "lacks latent_attention_model"),
        (lambda w: w.pop("embedding_model.norm.weight", None), "lacks embedding_model.norm"),
        (
            lambda w: w.update({"lm_head.weight": next(iter(w.values())).clone()}),
            "has no lm_head.weight",
        ),
        (lambda w: shorten(w, "latent_attention_model.latents"), "asks for"),
        (lambda w: shorten(w, "embedding_model.layers.1.mlp.up_proj.weight"), "do not fit config"),
    ],
)
def test_nv_embed_refuses_weights_that_do_not_fit(nv_copy: Path, change, message: str) -> None:
    damage_weights(nv_copy, change)
    with pytest.raises(ConfigError, match=message):
        NVEmbedEmbedder(nv_copy, device="cpu").encode(["x"])


def test_nv_embed_ignores_the_rotary_table_of_older_checkpoints(nv_copy: Path, nv) -> None:
    import torch

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
