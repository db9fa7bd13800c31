"""What does a server take? A few short requests before a run.

Some servers pass over what they do not know, so that a model answers without having heard or seen
anything, and some models cut a clip without a word. Both show in the tokens that a server counts: a
prompt with a sound or an image must have more than one without, and one with a longer sound must have
more again.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.engines.chats import Message, Part, Sound

logger = logging.getLogger(__name__)

TEXT = "Answer with one letter."
SHORT_S = 1.0
# Where only a half can be compared with a whole: this share of twice the tokens must be there. Less
# of a cut than the rest cannot be told from rounding and fixed tokens around a sound.
LEAST_GROWTH = 0.9

_OTHERWISE = " If you know better, add check=false to --model_args."


class Refused(Exception):  # noqa: N818 - a refusal is an answer here
    """The server did not answer; the text says why."""


class Ask(Protocol):
    """Puts one message to the server with audio in a certain form."""

    def __call__(self, message: Message, form: str, **parameters: Any) -> int | None:
        """Return the tokens of the prompt, None where the server does not count; or raise Refused."""
        ...


@dataclass(frozen=True)
class Finding:
    """What a server takes, as far as it was asked.

    Parameters
    ----------
    form : str or None
        How audio is to be sent.
    without : int or None
        Tokens of the prompt without a sound; None where the server does not count, so that nothing
        more can be checked.
    tokens_of_a_second : int or None
        Tokens that one second of sound adds to a prompt.
    longest_s : float or None
        The longest sound that was checked to be heard whole, in seconds.
    images : bool or None
        Whether an image was checked to reach the model; False where this cannot be known.
    stops : bool or None
        Whether the server takes stop strings.
    """

    form: str | None = None
    without: int | None = None
    tokens_of_a_second: int | None = None
    longest_s: float | None = None
    images: bool | None = None
    stops: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "audio_format": self.form,
            "tokens_of_a_second": self.tokens_of_a_second,
            "heard_whole_up_to_s": self.longest_s,
            "images_reach_the_model": self.images,
            "takes_stop_strings": self.stops,
        }


def find_out(
    ask: Ask,
    finding: Finding,
    forms: tuple[str, ...],
    sampling_rate: int,
    fixes: Mapping[str, str],
    *,
    longest_s: float | None,
    beyond_s: float,
    images: bool,
    stops: bool,
) -> Finding:
    """Find out what a run needs and was not asked before.

    Parameters
    ----------
    ask, finding, forms, sampling_rate, fixes
        See `find_form`.
    longest_s : float or None
        Length of the run's longest sound in seconds; None where it has none.
    beyond_s : float
        Sounds of up to so many seconds are taken to be heard whole.
    images, stops : bool
        Whether the run has images, and stop strings.

    Returns
    -------
    Finding
        What is known now.

    Raises
    ------
    ConfigError
        When something does not reach the model.
    """
    found = finding
    if longest_s is not None:
        if found.form is None:
            found = find_form(ask, found, forms, sampling_rate, fixes)
        if longest_s > max(beyond_s, found.longest_s or 0.0):
            found = check_length(ask, found, longest_s, sampling_rate)
    if images and found.images is None:
        found = check_images(ask, found)
    if stops and found.stops is None:
        found = check_stops(ask, found, sampling_rate)
    if found != finding:
        logger.info("what the server takes: %s", found.as_dict())
    return found


def find_form(
    ask: Ask,
    finding: Finding,
    forms: tuple[str, ...],
    sampling_rate: int,
    fixes: Mapping[str, str],
) -> Finding:
    """Find the first form of audio that the server takes and does not pass over.

    Parameters
    ----------
    ask : callable
        See `Ask`.
    finding : Finding
        What is known.
    forms : tuple of str
        In the order in which they are tried.
    sampling_rate : int
        Of the sounds, in Hz.
    fixes : mapping
        Form -> what else the user can do, filled by `ask` when it raises `Refused`.

    Returns
    -------
    Finding
        With the form.

    Raises
    ------
    ConfigError
        When there is none.
    """
    without = _tokens_without(ask, finding, forms[0])
    problems = []
    for form in forms:
        try:
            tokens = ask(_message(noise(SHORT_S, sampling_rate), TEXT), form)
            if tokens is not None and without is None:
                # Text alone was refused: what a second second adds, the first one added too.
                longer = ask(_message(noise(2 * SHORT_S, sampling_rate), TEXT), form)
                without = None if longer is None else tokens - max(0, longer - tokens)
        except Refused as refusal:
            problems.append(f"{form}: {refusal}")
            continue
        if tokens is None or without is None:
            logger.warning(
                "the server does not say how many tokens a prompt has, with and without audio: "
                "whether it passes over audio, or cuts it, cannot be checked"
            )
            return dataclasses.replace(finding, form=form)
        if tokens > without:
            return dataclasses.replace(
                finding, form=form, without=without, tokens_of_a_second=tokens - without
            )
        problems.append(
            f"{form}: the server answers, but a prompt with a sound has {tokens} tokens and one "
            f"without has {without}: the sound was passed over"
        )
    fix = next((fixes[form] for form in forms if form in fixes), "")
    raise ConfigError(
        "no audio reaches the model. "
        + ". ".join(problems)
        + (f". {fix}" if fix else "")
        + _OTHERWISE
    )


def check_images(ask: Ask, finding: Finding) -> Finding:
    """Check that an image is not passed over.

    Raises
    ------
    ConfigError
        When it is, or the server refuses it.
    """
    from PIL import Image

    form = finding.form or ""
    without = _tokens_without(ask, finding, form)
    image = Image.new("RGB", (64, 64), (200, 80, 40))
    try:
        tokens = ask(_message(image, TEXT), form)
    except Refused as refusal:
        raise ConfigError(
            f"the server takes no image: {refusal}. Serve a model that sees{_OTHERWISE}"
        ) from refusal
    if tokens is None or without is None:
        return dataclasses.replace(finding, images=False)
    if tokens <= without:
        raise ConfigError(
            f"no image reaches the model: a prompt with one has {tokens} tokens, "
            f"and one without has {without}. Serve a model that sees.{_OTHERWISE}"
        )
    return dataclasses.replace(finding, without=without, images=True)


def check_stops(ask: Ask, finding: Finding, sampling_rate: int) -> Finding:
    """Find out whether the server takes stop strings; some fail at them."""
    parts: list[Part] = [TEXT]
    if finding.form is not None:
        parts.insert(0, noise(SHORT_S, sampling_rate))
    try:
        ask(_message(*parts), finding.form or "", stop=["\n\n"])
    except Refused as refusal:
        logger.warning(
            "the server fails at stop strings (%s): they are not sent, and replies are cut at them "
            "here",
            refusal,
        )
        return dataclasses.replace(finding, stops=False)
    return dataclasses.replace(finding, stops=True)


def _tokens_without(ask: Ask, finding: Finding, form: str) -> int | None:
    if finding.without is not None:
        return finding.without
    try:
        return ask(_message(TEXT), form)
    except Refused as refusal:
        # Audio models of OpenAI refuse requests without audio.
        logger.info("a request of text alone was refused: %s", refusal)
        return None


def check_length(ask: Ask, finding: Finding, longest_s: float, sampling_rate: int) -> Finding:
    """Check that a sound of this length is not cut.

    A model that cuts at some length gives a sound beyond it as many tokens as one twice as long. Where
    the server does not take one twice as long, the sound is compared with its half.

    Parameters
    ----------
    ask : callable
        See `Ask`.
    finding : Finding
        Of `find_form`.
    longest_s : float
        Length of the longest sound of the run, in seconds.
    sampling_rate : int
        Of the sounds, in Hz.

    Returns
    -------
    Finding
        With what was checked.

    Raises
    ------
    ConfigError
        When it is cut.
    """
    without, form = finding.without, finding.form
    if without is None or form is None:
        return finding

    def tokens_of(seconds: float) -> int:
        counted = ask(_message(noise(seconds, sampling_rate), TEXT), form)
        if counted is None:
            raise Refused("the server has stopped counting")
        return counted - without

    try:
        tokens = tokens_of(longest_s)
        try:
            other_s = 2 * longest_s
            other = tokens_of(other_s)
            cut = other <= tokens
        except Refused:
            other_s = longest_s / 2
            other = tokens_of(other_s)
            cut = tokens < LEAST_GROWTH * 2 * other
    except Refused as refusal:
        logger.warning(
            "whether a sound of %.1f s is heard whole cannot be checked: %s", longest_s, refusal
        )
        return finding
    if cut:
        raise ConfigError(
            f"a sound of {longest_s:.1f} s is not heard whole: it takes {tokens} "
            f"tokens, and one of {other_s:.1f} s takes {other}. Choose long_audio=windows, or set "
            "whole_s to what the model hears at once; uniform and truncate leave audio out and say "
            f"so.{_OTHERWISE}"
        )
    return dataclasses.replace(finding, longest_s=longest_s)


def noise(seconds: float, sampling_rate: int) -> Sound:
    """Return quiet noise, the same every time."""
    random = np.random.default_rng(0)
    samples = random.normal(0.0, 0.05, round(seconds * sampling_rate)).astype(np.float32)
    return Sound(samples, sampling_rate)


def _message(*parts: Part) -> Message:
    return Message("user", parts)
