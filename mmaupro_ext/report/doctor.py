"""The doctor's report on one checkpoint: what was loaded, a verdict a line, a conclusion."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from mmaupro_ext import __version__
from mmaupro_ext.errors import ConfigError

_MARKS = {"yes": "yes ", "NO": "NO  ", "note": "note"}


def examine(
    options: Mapping[str, Any], use_template: bool, say: Callable[[str], Any]
) -> dict[str, Any]:
    """Load a model and examine it.

    Parameters
    ----------
    options : mapping
        The arguments of `HFAudioLM`, of the planned run.
    use_template : bool
        Whether the run applies the chat template.
    say : callable
        Called with each line of the report as soon as it is known.

    Returns
    -------
    dict
        `about` (what was loaded) and `findings` (one a check), as plain JSON.

    Raises
    ------
    ConfigError
        When the model takes no audio, or an option cannot be honoured.
    """
    from mmaupro_ext.models.doctor import Doctor
    from mmaupro_ext.models.hf.model import HFAudioLM

    start = time.perf_counter()
    lm = HFAudioLM(**options)
    if lm.family is None:
        raise ConfigError(
            f"the model of type {lm.config.model_type!r} takes no audio: there is nothing to listen for."
        )
    doctor = Doctor(lm, use_template=use_template)
    about = describe(lm, time.perf_counter() - start)
    for line in about_lines(about):
        say(line)
    say("")
    findings = []
    width = max(len(question) for question, _ in doctor.checks())
    for finding in doctor.examine():
        findings.append(finding.as_dict())
        say(f"{_MARKS[finding.verdict]}  {finding.question:<{width}}  {finding.detail}")
    found = {"about": about, "findings": findings}
    say("")
    say(conclusion(failed(found), len(findings), time.perf_counter() - start))
    if not use_template and lm.has_chat_template:
        say(
            "The checkpoint has a chat template that was not used: if the run will, add "
            "--apply_chat_template here, too."
        )
    return found


def failed(found: Mapping[str, Any]) -> int:
    """Return how many checks speak against a run."""
    return sum(finding["verdict"] == "NO" for finding in found["findings"])


def describe(lm: Any, load_s: float) -> dict[str, Any]:
    """Return what was loaded."""
    family = lm.family
    return {
        "mmaupro_ext": __version__,
        "pretrained": str(lm.config.name_or_path or type(lm.model).__name__),
        "class": type(lm.model).__name__,
        "family": family.name,
        "parameters": sum(parameter.numel() for parameter in lm.model.parameters()),
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "device": str(lm.device),
        "max_length": lm.max_length,
        "frontend": lm.frontend,
        "channels": lm.channels,
        "long_audio": lm.long_audio.policy,
        "whole_s": family.writing.whole_s,
        "window_s": family.writing.window_s,
        "notes": list(family.notes),
        "load_s": round(load_s, 2),
    }


def about_lines(about: dict[str, Any]) -> list[str]:
    """Return the head of the report."""
    whole = "of any length" if about["whole_s"] is None else f"up to {about['whole_s']:g} s"
    return [
        f"{about['class']} ({about['family']}): {about['parameters']:,} weights, {about['dtype']} on "
        f"{about['device']}, context {about['max_length']:,} tokens, loaded in {about['load_s']:.1f} s",
        f"hears clips {whole} its own way; long_audio={about['long_audio']}, "
        f"channels={about['channels']}, frontend={about['frontend']}",
    ]


def conclusion(bad: int, findings: int, seconds: float) -> str:
    """Return the last line."""
    if bad:
        return f"{bad} of {findings} checks failed: read them before you start. ({seconds:.0f} s in all)"
    return f"The audio gets through: nothing speaks against a run. ({seconds:.0f} s in all)"
