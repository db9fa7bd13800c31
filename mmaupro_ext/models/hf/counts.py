"""What a model was made to do, counted: passes, tokens and shapes, which no busy machine changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Counts:
    """What was done since the model was loaded.

    Attributes
    ----------
    encoded, encoded_before : int
        Blocks of audio that went through the encoder, and blocks that found that done for an earlier prompt.
    prefills : int
        Passes that read prompts.
    prefilled_tokens : int
        Tokens in them, padding included.
    shared_tokens : int
        Tokens that were not read, since an earlier prompt began with them.
    steps : int
        Passes that wrote one token of each reply.
    replayed_steps : int
        Those of them that ran as CUDA graphs alone.
    rows_in_steps, slots_in_steps : int
        Replies in the steps of slots, and rows that were computed for them.
    prefill_shapes : set of (int, int, int)
        Of prefills: prompts, tokens that they share with earlier ones, and tokens to be read.
    shapes : set of (int, int)
        Of the steps of slots: rows and keys.

    Examples
    --------
    >>> counts = Counts()
    >>> counts.prefilled((2, 30))
    >>> counts.as_dict()["prefilled_tokens"]
    60
    """

    encoded: int = 0
    encoded_before: int = 0
    prefills: int = 0
    prefilled_tokens: int = 0
    shared_tokens: int = 0
    steps: int = 0
    replayed_steps: int = 0
    rows_in_steps: int = 0
    slots_in_steps: int = 0
    prefill_shapes: set[tuple[int, int, int]] = field(default_factory=set)
    shapes: set[tuple[int, int]] = field(default_factory=set)

    def prefilled(self, shape: Sequence[int], before: int = 0) -> None:
        """Note a pass over prompts, `(prompts, tokens)`, behind so many tokens that they share."""
        rows, tokens = shape
        self.prefills += 1
        self.prefilled_tokens += rows * tokens
        self.prefill_shapes.add((rows, before, tokens))

    def as_dict(self) -> dict[str, int]:
        """Return the numbers, of shapes how many."""
        return {
            name: len(value) if isinstance(value, set) else value
            for name, value in vars(self).items()
        }
