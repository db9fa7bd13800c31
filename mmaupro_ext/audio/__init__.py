"""Audio in: decode, mix, resample, cut into windows.

Everything is float32, channels first, in full-scale units ([-1, 1) for integer formats). Bad input
raises `mmaupro_ext.errors.AudioError`, which names the file (or the sample) and what to do.
"""

from __future__ import annotations

from mmaupro_ext.audio.channels import to_mono
from mmaupro_ext.audio.decoding import AudioReader, Decoded, decode
from mmaupro_ext.audio.loading import load, probe, stream
from mmaupro_ext.audio.opening import AudioInfo
from mmaupro_ext.audio.resampling import resample, resampler_used
from mmaupro_ext.audio.windowing import windows

__all__ = [
    "AudioInfo",
    "AudioReader",
    "Decoded",
    "decode",
    "load",
    "probe",
    "resample",
    "resampler_used",
    "stream",
    "to_mono",
    "windows",
]
