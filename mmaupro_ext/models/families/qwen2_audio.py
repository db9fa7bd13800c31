"""Qwen2-Audio (Chu et al. 2024, arXiv:2407.10759), as in `transformers.models.qwen2_audio`."""

from __future__ import annotations

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

HOP_LENGTH = 160  # samples at 16 kHz


def audio_tokens(samples: int) -> int:
    """Return how many audio tokens a block takes.

    The processor counts mel frames (one per started hop), the encoder's second convolution has
    stride 2, and the average pooling after it halves again: 25 tokens a second.

    Parameters
    ----------
    samples : int
        Length of the block at 16 kHz; at most 30 s.

    Returns
    -------
    int
        Number of `<|AUDIO|>` tokens.
    """
    frames = -(-samples // HOP_LENGTH)
    after_convolutions = (frames - 1) // 2 + 1
    return (after_convolutions - 2) // 2 + 1


QWEN2_AUDIO = Family(
    model_types=("qwen2_audio",),
    writing=Writing(
        audio_block="<|audio_bos|><|AUDIO|><|audio_eos|>",
        audio_token="<|AUDIO|>",
        count_tokens=each(audio_tokens),
        whole_s=30.0,
        window_s=30.0,
        label_alone=True,
        template_block_end="\n",
        min_samples=6 * HOP_LENGTH + 1,
    ),
    loading=Loading(
        loader="Qwen2AudioForConditionalGeneration",
        extractor_window=True,
    ),
    notes=(
        "The stock extractor cuts every clip at 30 s without a word (truncation defaults to True "
        "in WhisperFeatureExtractor, and the encoder insists on 3000 frames); hf-audio sends "
        "longer clips as consecutive blocks.",
        "Blocks of fewer than three frames have no audio token at all: they would vanish. In a pass without "
        "two audio tokens side by side (blocks of six frames or fewer) the stock model takes its legacy "
        "path, which cannot generate: the shortest block has seven.",
    ),
)
