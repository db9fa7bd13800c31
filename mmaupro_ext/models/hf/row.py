"""One reply that is being written, and what the checkpoint does to its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from transformers import (
    InfNanRemoveLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from mmaupro_ext.failing import Failed
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.slots import NoSlotsError

Key = TypeVar("Key")

# Processors that look at a row's ids and logits alone. Others count from where the prompt of a batch
# ends, which is elsewhere for each row here.
OF_OWN_IDS = (
    InfNanRemoveLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
)


@dataclass(eq=False)
class Row(Generic[Key]):
    """One prompt on its way to a reply.

    Parameters
    ----------
    key : object
        The caller's, given back with the reply.
    prompt : PreparedPrompt
        With its media.
    limit : int
        Tokens that the reply may have.

    Attributes
    ----------
    tokens : list of int
        The reply so far, its end token included.
    finish : {"stop", "length", "error", ""}
        Why it ended; "" while it has not.
    failed : Failed or None
        With "error".
    cut : int
        Tokens that are read in a pass of their own, since others go on from there; 0 for none.
    alone : bool
        Whether no other is written beside it: a step of several has failed.
    """

    key: Key
    prompt: PreparedPrompt
    limit: int
    tokens: list[int] = field(default_factory=list)
    finish: str = ""
    failed: Failed | None = None
    cut: int = 0
    alone: bool = False
    keys_held: int = 0  # the last token is not among them
    delta: int = 0  # next position minus length, for models that count positions on several axes

    def start_again(self) -> None:
        """Forget what was written."""
        self.tokens.clear()
        self.finish, self.failed, self.keys_held, self.delta, self.cut = "", None, 0, 0, 0


def kinds_of(rows: Sequence[Row[Any]]) -> frozenset[str]:
    """Return the kinds of media in the prompts of rows."""
    return frozenset().union(*(row.prompt.kinds for row in rows))


def processors_of(model: Any) -> Any:
    """Return what the checkpoint's generation settings do to logits in greedy decoding.

    Raises
    ------
    NoSlotsError
        When they are not for rows of different lengths.
    """
    config, _ = model._prepare_generation_config(None, do_sample=False)
    model._prepare_special_tokens(config, True, device=model.device)
    processors = model._get_logits_processor(
        generation_config=config, input_ids_seq_length=1, device=model.device
    )
    for processor in processors:
        if not isinstance(processor, OF_OWN_IDS):
            raise NoSlotsError(f"no slots with {type(processor).__name__}")
    return processors
