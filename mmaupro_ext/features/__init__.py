"""From waveforms to what a model eats."""

from mmaupro_ext.features.extractor import is_native, native_extractor
from mmaupro_ext.features.families import from_settings
from mmaupro_ext.features.streaming import log_mel_windows
from mmaupro_ext.features.whisper import log_mel, log_mel_reference, mel_filters

__all__ = [
    "from_settings",
    "is_native",
    "log_mel",
    "log_mel_reference",
    "log_mel_windows",
    "mel_filters",
    "native_extractor",
]
