"""What a user can do when a server refuses a request: the words of known servers and their cure."""

from __future__ import annotations

import re

# In the order in which they are looked for. The words are those of vLLM 0.33, SGLang, llama-server,
# transformers serve and OpenAI; what none of them says falls through to a general sentence.
_KNOWN: tuple[tuple[str, str], ...] = (
    (
        r"at most \d+ audio|limit[-_]mm[-_]per[-_]prompt|too many audio",
        "This server takes fewer sounds in one prompt than this item has. Start vLLM with "
        "--limit-mm-per-prompt '{\"audio\": N}'; or join several clips with multi_audio=concat; or send "
        "long clips whole with long_audio=native, if the model hears them whole.",
    ),
    (
        r"maximum allowed duration|MAX_AUDIO_DECODE",
        "Raise VLLM_MAX_AUDIO_DECODE_DURATION_S (and VLLM_MAX_AUDIO_DECODE_BYTES) where vLLM runs, or "
        "choose long_audio=windows.",
    ),
    (
        r"at most \d+ image",
        "Start vLLM with --limit-mm-per-prompt '{\"image\": N}'.",
    ),
    (
        r"context (size|length|window)|maximum context|too long|max_model_len|longer than the maximum"
        r"|exceeds? the (model|available)|max_seq_len",
        "The prompt does not fit into the context of the server: start it with a longer one "
        "(--max-model-len, --context-length, -c), or choose long_audio=uniform with max_audio_tokens, "
        "or long_audio=truncate. Nothing was cut.",
    ),
    (
        r"does not support audio|audio input is not supported|mmproj|not support.{0,20}audio modality"
        r"|audio.{0,40}not a multimodal|is not a multimodal model",
        "The model behind this server hears nothing: serve an audio model (llama-server needs its "
        "--mmproj file as well).",
    ),
    (
        r"does not support image|image input is not supported|image.{0,40}not a multimodal",
        "The model behind this server sees nothing: serve one that takes images.",
    ),
    (
        r"stream mode|only supports? stream|enable.{0,12}stream|stream.{0,20}must be (set to )?true",
        "This model answers in streams only: add stream=true to --model_args.",
    ),
    (
        r"use .?max_completion_tokens",
        "Add max_tokens_field=max_completion_tokens to --model_args.",
    ),
    (
        r"temperature.{0,60}(not support|unsupported|deprecated|only the default)"
        r"|(not support|unsupported).{0,60}temperature",
        "This model takes no temperature: add send_temperature=false to --model_args.",
    ),
    (
        r"input_audio\.format|unsupported (audio )?format|invalid or corrupted audio|format not recogni"
        r"|could not decode|failed to (load|decode) audio",
        "The server cannot read this audio format: leave out send=original or send=flac, and "
        "clips go as 16-bit WAV.",
    ),
    (
        r"unsupported content|content\[\]\.type|audio_url|input_audio|unknown part type"
        r"|url does not appear to be valid"
        r"|input should be 'text'",
        "The server does not know this form of audio: set audio_format={other}, or leave it to "
        "audio_format=auto.",
    ),
    (
        r"temperature|top_p|stop|seed|max_tokens|max_completion_tokens|unexpected fields|extra inputs",
        "The server refuses a parameter: change it by --gen_kwargs, or by max_tokens_field, "
        "send_temperature, seed or extra_body in --model_args.",
    ),
    (
        r"requires that either input content or output modality contain audio",
        "This model answers requests with audio only: run tasks that have audio.",
    ),
)
_GENERAL = "See the log of the server."
_OTHER_FORM = {
    "input_audio": "audio_url or input_audio_uri",
    "audio_url": "input_audio or input_audio_uri",
    "input_audio_uri": "input_audio or audio_url",
}


def fix_for(words: str, status: int | None, form: str) -> str:
    """Return what to do about a failed request.

    Parameters
    ----------
    words : str
        What the server wrote, or what happened.
    status : int or None
        Of a refusal; None where a request was tried in vain.
    form : {"input_audio", "audio_url", "input_audio_uri"}
        How audio was sent.
    """
    if status == 413:
        return (
            "The request is too large for max_request_mb, the server or a proxy before it: raise their "
            "limit, send half as much with send=flac or the compressed files with send=original, or "
            "choose long_audio=uniform or truncate."
        )
    for pattern, fix in _KNOWN:
        if re.search(pattern, words, re.IGNORECASE):
            return fix.replace("{other}", _OTHER_FORM.get(form, "auto"))
    if status is None:
        return (
            "Check that the server runs and see its log. The same command with --retry-errors asks for "
            "what is missing."
        )
    return _GENERAL
