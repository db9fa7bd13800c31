"""Sounds and images as bytes and as data: URIs."""

from __future__ import annotations

import base64
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.models.inputs import Samples

if TYPE_CHECKING:
    from PIL.Image import Image

# libsndfile's names of containers -> what OpenAI's protocol and media types call them.
FORMATS = {"WAV": "wav", "WAVEX": "wav", "MP3": "mp3", "FLAC": "flac", "OGG": "ogg", "AIFF": "aiff"}


def wav(samples: Samples, sampling_rate: int, subtype: str = "PCM_16") -> bytes:
    """Return samples as a WAV file.

    Parameters
    ----------
    samples : numpy.ndarray
        float32, shape `(samples,)`, or `(2, samples)` for two channels.
    sampling_rate : int
        In Hz.
    subtype : {"PCM_16", "FLOAT"}
        16-bit samples are rounded, and what resampling made larger than full scale is full scale;
        those of a 16-bit file at its own rate come out as they are in the file.

    Returns
    -------
    bytes
        The file.
    """
    content: Any = samples.T
    if subtype == "PCM_16":
        content = np.clip(np.rint(content * 32768.0), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, content, sampling_rate, format="WAV", subtype=subtype)
    return file.getvalue()


def original(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Return the bytes of an audio file and what its format is called, for example "mp3"."""
    found = audio.probe(path).format
    with open(path, "rb") as file:
        return file.read(), FORMATS.get(found, found.lower())


def png(image: Image) -> bytes:
    """Return an image as a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def base64_text(content: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(content).decode("ascii")


def data_uri(content: bytes, media_type: str) -> str:
    """Return bytes as a data: URI."""
    return f"data:{media_type};base64,{base64_text(content)}"
