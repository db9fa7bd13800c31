"""Music Flamingo (Ghosh et al. 2025, arXiv:2511.10289): Audio Flamingo 3 with a sense of time."""

from __future__ import annotations

from mmaupro_ext.models.families import audioflamingo3
from mmaupro_ext.models.families.family import Family, Loading, Writing, each

MUSICFLAMINGO = Family(
    model_types=("musicflamingo",),
    writing=Writing(
        audio_block="<sound>",
        audio_token="<sound>",
        count_tokens=each(audioflamingo3.count_tokens),
        whole_s=1200.0,
        min_samples=audioflamingo3.LEAST,
    ),
    loading=Loading(
        loader="MusicFlamingoForConditionalGeneration",
        processor_limit="max_audio_len",
        template_content="text",
        adapt_processor=audioflamingo3.take_several_clips,
        encode=audioflamingo3.encode,
    ),
    notes=(
        "As Audio Flamingo 3, with 1200 s. Where a clip begins and ends is read from the runs of audio "
        "tokens, from which the model computes the time of each (rotary time embedding).",
        "A last window without a token has no place among these runs: the stock model stops with an "
        "IndexError, or gives the next clip the times of a later window.",
        *audioflamingo3.SEVERAL_CLIPS,
    ),
)
