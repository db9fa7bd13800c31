"""Questions prepared ahead, longest first, and answered batch by batch or as places become free."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mmaupro_ext.failing import Failed, in_parts
from mmaupro_ext.heard import Reply
from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.generation import Generator
from mmaupro_ext.models.hf.preparing import Preparer
from mmaupro_ext.models.items import Failures, Question, attempt
from mmaupro_ext.models.media import sounds_key
from mmaupro_ext.models.prefetch import Prefetcher

T = TypeVar("T")
R = TypeVar("R")

# Questions on the same media go side by side if the shortest has this share of the longest one's tokens: a
# tenth of a batch is padding then at most, and slots that hold the first hold the others.
ALIKE = 0.9
# A float32 sample, and its share of 128 float32 features every 160 samples, both twice while copied.
BYTES_PER_SAMPLE = 2 * (4 + 4 * 128 / 160)


class Schedule:
    """Answer questions in batches of similar length while worker threads prepare the next ones.

    Parameters
    ----------
    preparer : Preparer
        Cloned for each worker.
    workers : int
        Threads; with 0 a question is prepared when its batch is due.
    max_bytes : int
        Bound on what is prepared ahead.
    generator : Generator
        Whose failures are counted, and whose budget of tokens in a pass is kept to.

    Attributes
    ----------
    waited_s, prepared_s : float
        Seconds for which the model waited for input, and that preparing took, over all calls.
    """

    def __init__(
        self, preparer: Preparer, workers: int, max_bytes: int, generator: Generator
    ) -> None:
        self.preparer, self.workers, self.max_bytes = preparer, workers, max_bytes
        self._failures, self._budget = generator.failures, generator.passes.budget
        self._unprepared = Failures(
            "the processor",
            "`mmaupro doctor` with the same --model_args says what it takes; frontend=stock leaves "
            "features to it.",
        )
        self.waited_s = self.prepared_s = 0.0

    def answer(
        self,
        questions: Sequence[Question],
        prepare: Callable[[Preparer, Question], T],
        forward: Callable[[Sequence[T]], list[R]],
        on_failure: Callable[[Reply], R],
        *,
        batch_size: int,
    ) -> Iterator[tuple[Question, R]]:
        """Yield each question with its answer, longest audio first.

        Parameters
        ----------
        questions : sequence of Question
            In any order.
        prepare : callable
            `(preparer, question)` -> what `forward` takes; raises for items that cannot be served.
        forward : callable
            A batch -> its answers. One that fails is run in parts, see `failing.in_parts`; after
            one that ran out of memory later batches hold no more tokens than a part that went
            through (`memory.Budget`): shorter items go together again.
        on_failure : callable
            Error reply -> the answer of an item that could not be served.
        batch_size : int
            At most so many questions go together, and no more tokens than the budget holds.
        """
        with self._prepared(questions, prepare) as (lengths, prefetcher):
            start = 0
            while start < len(lengths):
                count = batching.batch_length(
                    lengths[start : start + batch_size], batch_size, self._budget.tokens
                )
                longest = max(lengths[start : start + count])
                start += count
                ready: list[tuple[Question, T]] = []
                for question, prepared in self._taken(prefetcher, count):
                    if isinstance(prepared, Reply):
                        yield question, on_failure(prepared)
                    else:
                        ready.append((question, prepared))
                answers, together = in_parts([entry for _, entry in ready], forward)
                if together < len(ready):
                    self._budget.fall(together * longest)
                for (question, _), answer in zip(ready, answers, strict=True):
                    if isinstance(answer, Failed):
                        yield question, on_failure(self._failures.reply(question, answer))
                    else:
                        self._failures.end()
                        yield question, answer

    def stream(
        self,
        questions: Sequence[Question],
        prepare: Callable[[Preparer, Question], T],
        answer: Callable[[Iterator[tuple[Question, T]]], Iterator[tuple[Question, Reply]]],
    ) -> Iterator[tuple[Question, Reply]]:
        """Yield each question with its reply, as replies are finished; longest audio goes in first.

        Parameters
        ----------
        questions : sequence of Question
            In any order.
        prepare : callable
            As in `answer`.
        answer : callable
            Prepared questions, to be taken when there is a place for the next one -> replies in any
            order.
        """
        failed: list[tuple[Question, Reply]] = []

        def ready() -> Iterator[tuple[Question, T]]:
            for question, prepared in self._taken(prefetcher, len(lengths)):
                if isinstance(prepared, Reply):
                    failed.append((question, prepared))
                else:
                    yield question, prepared

        with self._prepared(questions, prepare) as (lengths, prefetcher):
            for answered in answer(ready()):
                yield answered
                yield from failed
                failed.clear()
            yield from failed

    @contextlib.contextmanager
    def _prepared(
        self, questions: Sequence[Question], prepare: Callable[[Preparer, Question], T]
    ) -> Iterator[tuple[list[int], Prefetcher[Question, Preparer, T | Reply | Failed]]]:
        """Prepare questions ahead, longest first; with the estimated tokens of each."""
        sizes, ordered = self._in_order(questions)
        prefetcher = Prefetcher(
            ordered,
            self.preparer.clone if self.workers else lambda: self.preparer,
            lambda preparer, question: attempt(question, lambda: prepare(preparer, question)),
            self._bytes_of,
            self.workers,
            self.max_bytes,
        )
        try:
            with prefetcher:
                yield sizes, prefetcher
        finally:
            self.waited_s += prefetcher.waited_s
            self.prepared_s += prefetcher.prepared_s

    def _in_order(self, questions: Sequence[Question]) -> tuple[list[int], list[Question]]:
        """Return sizes and questions, about longest first.

        Those on the same media stand side by side, since they begin alike, as far as the shortest of them
        is not much shorter than the longest.
        """
        by_size = sorted(
            (-self._size_of(question), sounds_key(question.media), question.context, number)
            for number, question in enumerate(questions)
        )
        leading: dict[str, int] = {}
        places = []
        for entry in by_size:
            size, media = -entry[0], entry[1]
            if size < ALIKE * leading.get(media, math.inf):
                leading[media] = size
            places.append((-leading[media], media, *entry))
        places.sort()
        return [-entry[2] for entry in places], [questions[entry[-1]] for entry in places]

    def _taken(
        self, prefetcher: Prefetcher[Question, Preparer, T | Reply | Failed], count: int
    ) -> Iterator[tuple[Question, T | Reply]]:
        """Yield the next questions, each with what was prepared or its error reply."""
        for question, prepared in prefetcher.take(count):
            yield question, self._unprepared.settle(question, prepared)

    def _size_of(self, question: Question) -> int:
        """Estimate the length of a prompt in tokens, without decoding."""
        size = 1 + len(question.context) // 4
        if (placer := self.preparer.placer) is not None:
            # What it stumbles over, preparing does as well, and says.
            with contextlib.suppress(Exception):
                size += sum(placer.writing.count_tokens(placer.planned_blocks(question)))
        return size

    def _bytes_of(self, question: Question) -> int:
        """Estimate what a question occupies from its decoding to its forward pass."""
        size = 1 << 16
        if (placer := self.preparer.placer) is not None:
            seconds = placer.reader.stated_seconds(question.media.get("audio", []))
            size += int(seconds * placer.reader.sampling_rate * BYTES_PER_SAMPLE)
        return size
