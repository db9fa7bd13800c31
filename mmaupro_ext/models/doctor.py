"""Is it listening? A one-minute check of a checkpoint before a night of evaluation.

Each check makes a small change to what the model is given and looks at what it expects next: the
log-probabilities of the first token of its reply. Two passes over the same input say how much of a
difference is the arithmetic's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmaupro_ext.errors import ItemError
from mmaupro_ext.models import pace
from mmaupro_ext.models.hf.model import HFAudioLM
from mmaupro_ext.models.items import Question

RATE = 16_000  # Hz, of the sounds made here
GOOD, BAD, NOTE = "yes", "NO", "note"

ASK = "<audio>\nWhat do you hear?"
ASK_TWO = "<audio>\n<audio>\nWhich of the two is louder?"

# The most likely tokens of either side are compared: far below them is rounding.
_TOP = 50
# A change in the input must move some log-probability by this, and by ten times what repeating does.
_LEAST = 0.01
_BEYOND_ROUNDING = 1e-4  # of float32
_LONG_S = 600.0
_REPLY_TOKENS = 24

Signal = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a checkpoint.

    Parameters
    ----------
    question : str
        What was asked.
    verdict : {"yes", "NO", "note"}
        "NO" is a reason not to start an evaluation; a note is something to know.
    detail : str
        The evidence in one sentence, and the way out where there is one.
    numbers : dict
        What was measured; log-probabilities are natural logarithms, times in seconds.
    """

    question: str
    verdict: str
    detail: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


# ---- sounds ------------------------------------------------------------------------------------


def tone(seconds: float, frequency: float = 440.0, level: float = 0.3) -> Signal:
    """Return a tone with a slow swell; `seconds` long, at 16 kHz, `frequency` in Hz."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    swell = 0.75 + 0.25 * np.sin(2 * np.pi * 0.5 * time_s)
    return (level * swell * np.sin(2 * np.pi * frequency * time_s)).astype(np.float32)


def noise(seconds: float, level: float = 0.1) -> Signal:
    """Return white noise with a beat twice a second; always the same."""
    samples = np.random.default_rng(0).normal(0, level, round(seconds * RATE))
    beat = (np.arange(samples.size) % (RATE // 2)) < RATE // 4
    return (samples * (0.2 + 0.8 * beat)).astype(np.float32)


def reference(samples: Signal) -> dict[str, Any]:
    """Return samples at 16 kHz as a reference that the adapter reads."""
    return {"array": samples, "sampling_rate": RATE}


# ---- the examination ---------------------------------------------------------------------------


class Doctor:
    """Checks of one loaded model.

    Parameters
    ----------
    lm : HFAudioLM
        With the options of the planned run.
    use_template : bool
        Whether prompts go through the chat template, as with --apply_chat_template.
    """

    def __init__(self, lm: HFAudioLM, use_template: bool) -> None:
        self.lm = lm
        self.use_template = use_template
        self._repeat = 0.0
        self._reply_s = 0.0  # to half a minute of audio

    def checks(self) -> list[tuple[str, Callable[[], Finding]]]:
        """Return the questions with what answers them, cheap ones first."""
        return [
            ("does repeating a pass give the same?", self.repeats),
            ("does the audio change what is expected?", self.hears),
            ("does the question change what is expected?", self.reads),
            ("are two clips heard in their order?", self.keeps_order),
            ("are left and right told apart?", self.tells_sides),
            ("is the end of a 10-minute clip heard?", self.hears_the_end),
            ("do stock and native features agree?", self.frontends_agree),
            ("do answers not depend on the batch?", self.batches_agree),
            ("how fast is it, and in how much memory?", self.measures),
            ("how long will the benchmark take?", self.paces),
        ]

    def examine(self) -> Iterator[Finding]:
        """Yield one finding a check; an item that cannot be served is a finding, too."""
        for question, check in self.checks():
            try:
                yield check()
            except ItemError as error:
                yield Finding(question, BAD, f"{error.problem}. {error.fix or ''}".strip())

    # ---- helpers ------------------------------------------------------------------------------

    def prompt_text(self, content: str) -> str:
        """Return the prompt as the run would write it."""
        if not self.use_template:
            return content
        return self.lm.apply_chat_template([{"role": "user", "content": content}])

    def _expects(self, content: str, *sounds: Any) -> torch.Tensor:
        question = Question(self.prompt_text(content), {"audio": list(sounds)})
        return self.lm.next_token_logprobs(self.lm.prepare(question, self.lm.max_length))

    def _moved(
        self,
        question: str,
        first: torch.Tensor,
        second: torch.Tensor,
        what: str,
        otherwise: str,
        least: float = _LEAST,
    ) -> Finding:
        moved = distance(first, second)
        least = max(least, 10 * self._repeat)
        numbers = {"moved": moved, "needed": least}
        if moved >= least:
            return Finding(question, GOOD, f"{what} moves it by {moved:.3g}", numbers)
        return Finding(question, BAD, f"{what} moves it by {moved:.2g} only. {otherwise}", numbers)

    # ---- checks -------------------------------------------------------------------------------

    def repeats(self) -> Finding:
        """Measure how much two passes over the same input differ."""
        sound = reference(noise(3))
        self._repeat = distance(self._expects(ASK, sound), self._expects(ASK, sound))
        numbers = {"moved": self._repeat}
        question = "does repeating a pass give the same?"
        if self._repeat == 0.0:
            return Finding(question, GOOD, "to the last bit", numbers)
        return Finding(
            question,
            NOTE,
            f"up to {self._repeat:.2g} apart; other differences are judged against that",
            numbers,
        )

    def hears(self) -> Finding:
        """Compare noise, a tone and silence of the same length."""
        expected = [
            self._expects(ASK, reference(sound)) for sound in (noise(3), tone(3), 0 * tone(3))
        ]
        least = min(
            ((expected[i], expected[j]) for i, j in ((0, 1), (0, 2), (1, 2))),
            key=lambda pair: distance(*pair),
        )
        return self._moved(
            "does the audio change what is expected?",
            *least,
            "noise, a tone or silence",
            "The model does not listen: wrong checkpoint, missing adapter, or a broken audio tower.",
        )

    def reads(self) -> Finding:
        """Compare two questions about the same sound."""
        sound = reference(noise(3))
        return self._moved(
            "does the question change what is expected?",
            self._expects("<audio>\nHow many speakers are there?", sound),
            self._expects("<audio>\nAnswer with the word banana.", sound),
            "another question",
            "Check the chat template and whether the checkpoint is tuned for instructions.",
        )

    def keeps_order(self) -> Finding:
        """Compare two clips with the same two in the other order, and replace each."""
        question = "are two clips heard in their order?"
        quiet, loud = reference(tone(2, 300.0, 0.05)), reference(noise(2.5, 0.3))
        other = reference(tone(2.2, 1500.0))
        both = self._expects(ASK_TWO, quiet, loud)
        for clips, what in (
            ((other, loud), "another first clip"),
            ((quiet, other), "another second clip"),
        ):
            finding = self._moved(
                question, both, self._expects(ASK_TWO, *clips), what, "That clip is not heard."
            )
            if finding.verdict == BAD:
                return finding
        return self._moved(
            question,
            both,
            self._expects(ASK_TWO, loud, quiet),
            "their order",
            "The model mixes its clips up; multi_audio=concat may serve it better.",
        )

    def tells_sides(self) -> Finding:
        """Compare a stereo file with its mirror image."""
        import soundfile

        question = "are left and right told apart?"
        left, right = noise(2), 0.1 * tone(2)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("a.wav", "b.wav")]
            for file, sides in zip(files, ((left, right), (right, left)), strict=True):
                soundfile.write(file, np.stack(sides, axis=1), RATE, subtype="FLOAT")
            first, second = (self._expects(ASK, str(file)) for file in files)
        if self.lm.channels == "mono":
            return Finding(
                question,
                NOTE,
                "heard in mono: both channels are mixed; channels=stereo-as-two gives them apart, as "
                "two labelled recordings",
                {"moved": distance(first, second)},
            )
        return self._moved(
            question, first, second, "changing sides", "The model does not tell its channels apart."
        )

    def hears_the_end(self) -> Finding:
        """Change the last five seconds of ten minutes; if that is too little, more of them.

        Five seconds of six hundred may move little: anything beyond rounding counts.
        """
        question = "is the end of a 10-minute clip heard?"
        clip = np.tile(noise(10), round(_LONG_S / 10))
        ask = Question(self.prompt_text(ASK), {"audio": [reference(clip)]})
        start = time.perf_counter()
        prompt = self.lm.prepare(ask, self.lm.max_length)
        prepared_s = time.perf_counter() - start
        heard = prompt.heard or {}
        if prompt.length > self.lm.max_length:
            return Finding(
                question,
                BAD,
                f"ten minutes need {prompt.length} tokens, the model takes {self.lm.max_length}: such "
                "items will be errors. long_audio=uniform hears as many windows as fit.",
                {"tokens": prompt.length, "max_length": self.lm.max_length},
            )
        first = self.lm.next_token_logprobs(prompt)
        given = f"{heard.get('seconds_heard', 0):g} s given in {heard.get('windows')} block(s)"
        for seconds in (5, 30, 120):
            changed = clip.copy()
            changed[-seconds * RATE :] = tone(seconds, 900.0, 0.5)
            finding = self._moved(
                question,
                first,
                self._expects(ASK, reference(changed)),
                f"the last {seconds} s of {given}",
                "What lies there does not reach the answer.",
                least=_BEYOND_ROUNDING if self.lm.model.dtype == torch.float32 else _LEAST,
            )
            if finding.verdict == GOOD:
                break
        finding.numbers.update(tokens=prompt.length, prepared_s=prepared_s, **_lengths(heard))
        return finding

    def frontends_agree(self) -> Finding:
        """Compare what the model expects with the features of either frontend."""
        question = "do stock and native features agree?"
        sounds = [reference(noise(3)), reference(tone(7.3))]
        ask = Question(self.prompt_text(ASK_TWO), {"audio": sounds})
        try:
            prompts = [self.lm.preparer(name).prepare(ask) for name in ("stock", "native")]
        except Exception as error:  # the stock side may need packages that are not here
            return Finding(question, NOTE, f"not compared: {error}")
        stock, native = prompts
        same_ids = torch.equal(stock.tensors["input_ids"], native.tensors["input_ids"])
        apart = distance(*(self.lm.next_token_logprobs(prompt) for prompt in prompts))
        numbers = {"moved": apart, "same_ids": same_ids}
        allowed = max(self._tolerance(), 10 * self._repeat)
        if same_ids and apart <= allowed:
            return Finding(question, GOOD, f"same tokens, {apart:.2g} apart", numbers)
        return Finding(
            question,
            BAD,
            f"{'same' if same_ids else 'DIFFERENT'} tokens, {apart:.2g} apart where {allowed:.2g} is "
            "rounding. Use frontend=stock and report this.",
            numbers,
        )

    def batches_agree(self) -> Finding:
        """Compare log-likelihoods of items alone and in a batch with others."""
        question = "do answers not depend on the batch?"
        size = max(2, min(4, self.lm.media_batch_size))
        batch = [
            self.lm.prepare_choices(
                Question(
                    self.prompt_text(f"<audio>\nIs this sound number {number}?"),
                    {"audio": [reference(noise(2 + number % 2))]},
                    continuations=["Yes", "No"],
                )
            )
            for number in range(size)
        ]
        score = self.lm.score_choices
        together = [value for row in score(batch) for value, _ in row]
        alone = [value for choices in batch for value, _ in score([choices])[0]]
        apart = float(np.abs(np.subtract(together, alone)).max())
        numbers = {"apart": apart, "batch_size": size}
        allowed = max(self._tolerance(), 10 * self._repeat)
        if apart <= allowed:
            return Finding(question, GOOD, f"log-likelihoods {apart:.2g} apart", numbers)
        return Finding(
            question,
            NOTE,
            f"log-likelihoods {apart:.2g} apart in a batch of {size}, where {allowed:.2g} is rounding. "
            "batch_size=1 gives what the model says of an item alone.",
            numbers,
        )

    def measures(self) -> Finding:
        """Time a reply to half a minute of audio, and look at the memory."""
        ask = Question(self.prompt_text(ASK), {"audio": [reference(noise(30))]})
        start = time.perf_counter()
        prompt = self.lm.prepare(ask)
        prepared = time.perf_counter()
        (reply,) = self.lm.reply_to([prompt], max_gen_toks=_REPLY_TOKENS)
        done = time.perf_counter()
        self._reply_s = done - start
        memory, where = pace.peak_memory(self.lm)
        numbers = {
            "prepare_s": prepared - start,
            "reply_s": done - prepared,
            "prompt_tokens": prompt.length,
            "memory_bytes": memory,
            "reply": str(reply),
        }
        return Finding(
            "how fast is it, and in how much memory?",
            NOTE,
            f"30 s of audio: prepared in {prepared - start:.2f} s, {_REPLY_TOKENS} tokens in "
            f"{done - prepared:.2f} s alone; {memory / 2**30:.1f} GiB {where}; it says "
            f"{str(reply)[:80]!r}",
            numbers,
        )

    def paces(self) -> Finding:
        """Answer clips as long as the benchmark's, and say where the time goes."""
        detail, numbers = pace.pace_of(self.lm, self.prompt_text, self._reply_s)
        return Finding("how long will the benchmark take?", NOTE, detail, numbers)

    def _tolerance(self) -> float:
        """Return what float rounding may do: three digits in float32, less in half precision."""
        return 5e-3 if self.lm.model.dtype == torch.float32 else 0.25


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest difference of log-probability over the likely tokens of either side."""
    count = min(_TOP, len(first))
    likely = torch.cat([side.topk(count).indices for side in (first, second)])
    return float((first[likely] - second[likely]).abs().max())


def _lengths(heard: dict[str, Any]) -> dict[str, Any]:
    names = ("seconds_in_files", "seconds_heard", "windows", "audio_tokens")
    return {name: heard[name] for name in names if name in heard}
