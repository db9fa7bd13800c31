"""nano's tokenizer: the phrases of the generator as single tokens, words by BPE, bytes for the rest.

Short prompts are what makes a model of this size trainable on a CPU in an hour: a whole question
is one token. Any other text is spelled with word pieces and, where needed, bytes, without loss.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from nano_training import data
from synth import questions, speech
from synth.instructions import INSTRUCTIONS

PAD_TOKEN, END_TOKEN, AUDIO_TOKEN = "<|endoftext|>", "<|im_end|>", "<|AUDIO|>"
SPECIAL_TOKENS = (
    PAD_TOKEN,
    "<|im_start|>",
    END_TOKEN,
    AUDIO_TOKEN,
    "<|audio_bos|>",
    "<|audio_eos|>",
)
VOCABULARY = 1000  # word pieces and bytes, before the phrases


def drafts(per_skill: int = 40) -> Iterator[questions.Draft]:
    """Yield question texts with their options, of every skill."""
    for name, skill in questions.SKILLS.items():
        for number in range(per_skill):
            yield questions.make_text(skill, data.stream(0, "vocabulary", name, number))[0]


def phrases() -> list[str]:
    """Return what becomes one token each: questions, options of several words, fixed lines."""
    closing = data.task_functions().CLOSED_PROMPT.rsplit("\n", 1)[1]
    found = {closing, data.TRANSCRIPT_QUESTION}
    found |= {f"Audio {number}: " for number in range(1, 7)}
    found |= {f"({letter}) " for letter in "ABCDEFGHIJ"}
    found |= {"The recording is stereo, left channel Audio 1 and right channel Audio 2."}
    found |= {
        f"The recording is Audio 1 to Audio {n}, consecutive {data.WINDOW_S}-second parts."
        for n in (2, 3)
    }
    for draft in drafts():
        spoken = draft.params.get("word", "")
        found.add(draft.question if not spoken or spoken not in draft.question else "")
        found |= {option for option in draft.options if " " in option and ", " not in option}
    return sorted(found - {""})


def _texts() -> Iterator[str]:
    for draft in drafts():
        yield "\n".join((draft.question, *draft.options))
    for instruction in INSTRUCTIONS:
        yield instruction.text
    for _ in range(20):
        yield from speech.WORDS
        yield ", ".join(("note", "chord", "beep", "hiss", "clicks", "siren", *speech.WORDS))
        yield from data.SENTENCES
        yield from phrases()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer; the same on every machine.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
        With the special tokens of Qwen2-Audio.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD_TOKEN, eos_token=END_TOKEN, padding_side="left"
    )
