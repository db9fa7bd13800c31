"""The instruction-following questions of the sample: spoken, with the same words as text."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instruction:
    """One instruction and the arguments of its official check.

    Parameters
    ----------
    identifier : str
        Name of the constraint, one of `schema.TASK_IDENTIFIERS`.
    group : str
        Value of the `task_classification` column.
    text : str
        The instruction as it is spoken and as it is asked.
    kwargs : dict
        Arguments of the check.
    """

    identifier: str
    group: str
    text: str
    kwargs: dict[str, int | str] = field(default_factory=dict)


INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction(
        "Include Keywords",
        "Keywords",
        "Describe the sound after my voice. Your answer must include the words pitch and loud.",
        {"keywords": "pitch, loud"},
    ),
    Instruction(
        "Keyword Frequency",
        "Keywords",
        "Describe the sound after my voice. Use the word hear exactly two times.",
        {"keyword": "hear", "N": 2},
    ),
    Instruction(
        "Forbidden Words",
        "Keywords",
        "Describe the sound after my voice. Do not use the words audio or recording.",
        {"forbidden_words": "audio, recording"},
    ),
    Instruction(
        "Number Paragraphs",
        "Length Constraints",
        "Describe the sound after my voice in two paragraphs, separated by three asterisks.",
        {"N": 2},
    ),
    Instruction(
        "Number Words (at most)",
        "Length Constraints",
        "Describe the sound after my voice in at most twelve words.",
        {"N": 12},
    ),
    Instruction(
        "Number Sentences (range)",
        "Length Constraints",
        "Describe the sound after my voice in two to four sentences.",
        {"N1": 2, "N2": 4},
    ),
    Instruction(
        "Postscript",
        "Detectable Content",
        "Describe the sound after my voice, and end with a postscript that starts with P.S.",
        {"postscript_marker": "P.S."},
    ),
    Instruction(
        "Number Bullets",
        "Detectable Format",
        "Describe the sound after my voice in exactly three bullet points, each with an asterisk.",
        {"N": 3},
    ),
    Instruction(
        "Title",
        "Detectable Format",
        "Describe the sound after my voice. Give a title, wrapped in double angular brackets.",
    ),
    Instruction(
        "Two Responses",
        "Combination",
        "Give two different descriptions of the sound after my voice, separated by six asterisks.",
    ),
    Instruction(
        "All Uppercase",
        "Change Cases",
        "Describe the sound after my voice. Your entire answer must be in capital letters.",
    ),
    Instruction(
        "All Lowercase",
        "Change Cases",
        "Describe the sound after my voice. Your entire answer must be in lowercase letters.",
    ),
    Instruction(
        "Start Checker",
        "Start with or End with",
        "Describe the sound after my voice. Start your answer with the phrase I can hear.",
        {"start_phrase": "I can hear"},
    ),
    Instruction(
        "No Commas",
        "Punctuation",
        "Describe the sound after my voice. Do not use any commas.",
    ),
)
