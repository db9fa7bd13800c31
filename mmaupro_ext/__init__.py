"""Evaluate audio-language models on MMAU-Pro inside lm-evaluation-harness."""

__version__ = "0.2.0"
