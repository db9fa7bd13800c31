"""The native frontend inside vLLM: a plug-in of its group `vllm.general_plugins`.

vLLM calls `register` in each of its processes, before a model is looked at. From then on, the feature
extractors that transformers loads there are native ones where there are any, with the same features up
to float rounding (see `mmaupro_ext.features`); others stay. MMAUPRO_VLLM_FRONTEND=stock switches it off.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

# Below vLLM's own logger, which its processes show.
logger = logging.getLogger("vllm.mmaupro_ext")

VARIABLE = "MMAUPRO_VLLM_FRONTEND"
_PUT = "_mmaupro_ext_native"


def wanted() -> str:
    """Return "native", or "stock" where the environment says so."""
    return "stock" if os.environ.get(VARIABLE, "").lower() == "stock" else "native"


def register() -> None:
    """Let transformers load native feature extractors in this process; once, however often it is called."""
    if wanted() == "stock":
        return
    from transformers.feature_extraction_utils import FeatureExtractionMixin as Extractor

    if getattr(Extractor, _PUT, False):
        return
    # All ways to load one end here: its own from_pretrained, AutoFeatureExtractor, and processors.
    load = Extractor.from_dict.__func__  # type: ignore[attr-defined]

    @functools.wraps(load)
    def from_dict(cls: type, *arguments: Any, **options: Any) -> Any:
        return _native(load(cls, *arguments, **options))

    Extractor.from_dict = classmethod(from_dict)  # type: ignore[method-assign, assignment]
    setattr(Extractor, _PUT, True)


def _native(loaded: Any) -> Any:
    """Return the native form of what was loaded, which may come with its unused arguments."""
    from mmaupro_ext.features import native_extractor

    extractor, *more = loaded if isinstance(loaded, tuple) else (loaded,)
    try:
        extractor = native_extractor(extractor)
        logger.info("mmaupro-ext computes the features of %s", type(extractor).__name__)
    except Exception as error:  # whatever it is: a stock extractor works
        logger.info("the stock feature extractor stays: %s", error)
    return (extractor, *more) if more else extractor
