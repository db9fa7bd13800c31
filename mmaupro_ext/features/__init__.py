"""From samples to the features that models take.

``drop_in.py`` makes the drop-in for a stock extractor. The way of every call: what all drop-ins share
(``extractor.py``), and what is special to the family (one module each). ``mel.py`` is what the float64
definitions are made of.
"""

from mmaupro_ext.features.drop_in import from_settings, is_native, native_extractor
from mmaupro_ext.features.whisper import log_mel, log_mel_reference, mel_filters

__all__ = [
    "from_settings",
    "is_native",
    "log_mel",
    "log_mel_reference",
    "mel_filters",
    "native_extractor",
]
