"""The final answer of a reply: without thoughts, without tokens, and without what follows its end.

Every scorer reads `final_answer(reply)` and nothing else of a reply. Plain text comes back as it
is, to the last space, since the instruction checks count characters. What goes:

* thoughts: ``<think>…</think>`` and its relatives, channels (gpt-oss, Gemma 4), everything before
  an explicit start of the answer (``<RESPONSE>``), and everything before a closing tag whose
  opening tag stood in the prompt. A thought that never ends states nothing;
* tokens that a tokenizer left in the text: end of turn, padding, boxes, the header of the reply;
* what follows the end: text after an end-of-turn token, a new turn ("User:"), a new question.
"""

from __future__ import annotations

import re

from mmaupro_ext.replies import parse_error

_TAG = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|antthinking|"
    r"seed:think|planning|caption)"
)
_HEADER = r"(?:<\|(?:im_start|start|begin)\|>|<start_of_turn>|<\|start_header_id\|>|<\|turn>)\s*"
_MARKERS = re.compile(
    rf"""
    (?P<open>  [<◁]\s*{_TAG}\s*[>▷] | \[(?:THINK|REASONING)\] | <\|begin_of_thought\|>
             | <\|START_THINKING\|> | <\|think(?:ing)?\|> | <unused94>(?:thought)?
             | <\|channel\|>\s*(?!final\b)\w+[^<>]*?(?:<\|message\|>|$) | <\|channel>\s*\w+ )
  | (?P<close> [<◁]\s*/\s*{_TAG}\s*[>▷] | \[/(?:THINK|REASONING)\] | <\|end_of_thought\|>
             | <\|END_THINKING\|> | <\|/think(?:ing)?\|> | <unused95> | <channel\|> )
  | (?P<start> <(?:response|conclusion)> | <\|begin_of_solution\|> | <\|START_RESPONSE\|>
             | <\|content\|> | \[BEGIN\ FINAL\ RESPONSE\]
             | <\|channel\|>\s*final[^<>]*<\|message\|> )
  | (?P<end>   </s> | <eos> | <end_of_turn> | <turn\|> | <end_of_utterance> | \[/?INST\]
             | <\|(?:im_end|eot_id|eom_id|eot|end|return|call|endofturn|end_of_turn|end_of_text|
                     endoftext|end_of_sentence|end_of_role|END_OF_TURN_TOKEN)\|>
             | \[\|endofturn\|\] | <｜end▁of▁sentence｜> | </(?:response|conclusion)>
             | <\|end_of_solution\|> | <\|END_RESPONSE\|> | \[END\ FINAL\ RESPONSE\] )
  | (?P<token> {_HEADER}(?:assistant|model)\b(?:<\|end_header_id\|>)?\s* | <\|assistant\|>\s*
             | <\|(?:begin|end)_of_box\|> | <\|begin_of_text\|> | <\|message\|> | <s> | <bos>
             | <pad> | <｜begin▁of▁sentence｜> | <｜Assistant｜> | \[\|assistant\|\] )
  | (?P<turn>  {_HEADER}(?:user|human|system)\b | <\|(?:user|system)\|> | <｜User｜> | \[\|user\|\]
             | ^[#>*\ \t]*(?:user|human|assistant)[\ \t*]*[:：] | ^(?:user|human|assistant)[\ \t]*$
             | ^\#+[\ \t]*(?:instruction|input|user|human|question)s?\b
             | (?:^|(?<=[.!?)\]]\ ))[#>*_\ \t]*(?:(?:next|new|another|second)\ )?question
               (?:\ \d{{1,3}})?[\ \t*_]*[:：]
             | ^[#>*\ \t]*Q\d{{0,3}}[\ \t*]*[:：] | ^(?:问题|問題)\s*\d*[:：] )
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
# What an opening tag and its closing tag have in common.
_NAME = re.compile(
    "channel|unused|think|thought|reason|reflect|analysis|scratchpad|planning|caption", re.I
)
# Thoughts in plain words: Granite, and gpt-oss where a decoder dropped its special tokens
# ("analysisWe need…assistantfinalB").
_PLAIN_THOUGHTS = (
    (re.compile(r"\A(?:analysis|commentary)(?=[A-Z])"), re.compile("assistantfinal")),
    (
        re.compile(r"\A\s*Here(?:'s| is) my thought process:"),
        re.compile(r"^\s*Here(?:'s| is) my response:", re.MULTILINE),
    ),
)
_TAGGED = r"<answer>((?:(?!</?answer>).)*)"
_WRAPPED = re.compile(rf"\A{_TAGGED}(?:</answer>\s*)?\Z", re.S | re.I)
_TAGGED_END = re.compile(rf"{_TAGGED}</answer>\s*\Z", re.S | re.I)


def final_answer(reply: str, finish: str | None = None) -> str | None:
    """Return the part of a reply that answers, as the model wrote it.

    Parameters
    ----------
    reply : str
        The model's reply, raw.
    finish : {"stop", "length", "error"} or None
        Why the reply ended, where it is known.

    Returns
    -------
    str or None
        The answer; plain text comes back unchanged. None where nothing was answered: a thought
        that never ended, an item that could not be served.

    Examples
    --------
    >>> final_answer("<think>Perhaps tea. No.</think>B<|im_end|>")
    'B'
    >>> final_answer("<think>Perhaps tea.") is None
    True
    """
    if finish == "error" or parse_error(reply) is not None:
        return None
    for opening, closing in _PLAIN_THOUGHTS:
        if opening.match(reply):
            closed = closing.search(reply)
            return reply[closed.end() :].lstrip() if closed else None
    return _cut(reply)


def _cut(reply: str) -> str | None:
    markers = list(_MARKERS.finditer(reply))
    position = _end_of_unopened_thought(markers)
    thought = position > 0  # whether a thought has been dropped
    inside = ""  # the name of the thought that is open
    answer = ""
    for marker in markers:
        if marker.start() < position:
            continue
        kind = marker.lastgroup
        if inside:
            if kind == "end" and marker.group() != "<|end|>":
                reply = reply[: marker.start()]
                break
            if kind in ("start", "end") or (kind == "close" and _name(marker) == inside):
                inside, position = "", marker.end()
            continue
        answer += reply[position : marker.start()]
        position = marker.end()
        if kind == "open":
            inside, thought = _name(marker), True
            answer = answer.rstrip() + "\n\n" if answer.strip() else ""
        elif kind in ("start", "close"):
            answer, thought = "", True
        elif kind in ("end", "turn") and answer.strip():
            reply = reply[:position]
            answer = answer if kind == "end" else _without_separators(answer)
            break
        elif kind == "turn":
            answer += marker.group()
    if not inside:
        answer += reply[position:]
        return _unwrapped(answer.lstrip()) if thought else answer
    if answer.strip():
        return answer.strip()
    # An answer in its own tags, at the very end, counts although the thought was never closed.
    tagged = _TAGGED_END.search(reply, position)
    return tagged.group(1) if tagged else None


def _name(marker: re.Match[str]) -> str:
    found = _NAME.search(marker.group())
    return found.group().lower() if found else "thought"


def _end_of_unopened_thought(markers: list[re.Match[str]]) -> int:
    """Return where a thought ends whose opening tag stood in the prompt, or 0."""
    for marker in markers:
        if marker.lastgroup == "close":
            return marker.end()
        if marker.lastgroup in ("open", "start", "end"):
            break
    return 0


def _without_separators(answer: str) -> str:
    """Take off the blank lines, "###" and "---" between an answer and the next question."""
    lines = answer.split("\n")
    while len(lines) > 1 and not lines[-1].strip(" \t\r#=-*_"):
        lines.pop()
    return "\n".join(lines).rstrip()


def _unwrapped(answer: str) -> str:
    """Take off the tags in which models that were trained to think put their answer."""
    wrapped = _WRAPPED.match(answer)
    return wrapped.group(1) if wrapped else answer
