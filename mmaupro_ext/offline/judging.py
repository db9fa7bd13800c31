"""What all models that are asked about replies share: the prompt, the protocol, the store of answers.

A model is asked as a judge (of open-ended replies) or as a reader (of multiple-choice replies that were not
parsed, `offline.reader`); all that differs is the prompts and how messages call it (`Role`).


A judge answers prompts; what its answers are worth is read elsewhere (`scoring.open_ended`). An answer
that could not be had is an error reply (`mmaupro_ext.replies`), never a score, and is asked for again the
next time. `CachedJudge` keeps every answer on disk the moment it arrives, so an interrupted run goes on
where it stopped and a finished one asks nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply, parse_error
from mmaupro_ext.store import Store
from mmaupro_ext.util import sha256_of_text

DECODINGS = ("sampled", "greedy")
SEED = 0

_CACHE_SCHEME = 1
_KIND = "verdict"


@dataclass(frozen=True)
class Prompt:
    """What a judge is asked.

    Attributes
    ----------
    system : str or None
        System message; None for none.
    user : str
        User message.
    """

    system: str | None
    user: str

    def messages(self) -> list[dict[str, str]]:
        """Return the chat."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": self.user}]


@dataclass(frozen=True)
class Role:
    """What a model is asked for, for messages and options.

    Attributes
    ----------
    name : str
        "judge" or "reader".
    key_variable : str
        Environment variable with a server's key.
    """

    name: str
    key_variable: str


JUDGE = Role("judge", "MMAUPRO_JUDGE_KEY")
READER = Role("reader", "MMAUPRO_READER_KEY")

Keep = Callable[[int, str], None]


class Judge(Protocol):
    """Answers prompts.

    Attributes
    ----------
    name : str
        What a result calls it.
    """

    name: str

    def identity(self) -> dict[str, Any]:
        """Return everything that its answers depend on, as plain JSON: the key of the cache."""
        ...

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer each prompt once, in any order, by calling ``keep(position, answer)``.

        The calls come one at a time. An answer that cannot be had is an error reply.
        """
        ...


# --- store ---------------------------------------------------------------------------------------


class CachedJudge:
    """A judge whose answers are kept in a store, each the moment it arrives.

    The key of an answer is the SHA-256 of the judge's identity and the prompt.

    Parameters
    ----------
    judge : Judge
        Asked for what is missing.
    path : path
        File of the store, or a folder for one.
    progress : bool
        Whether a bar is shown on the terminal's error stream.
    role : Role
        For messages.

    Raises
    ------
    ConfigError
        By `ask`, when nothing can be kept there.
    """

    def __init__(
        self, judge: Judge, path: str | Path, progress: bool = True, role: Role = JUDGE
    ) -> None:
        path = Path(path)
        self.store = Store(path / "store.sqlite" if path.is_dir() else path)
        self.judge, self.progress, self.role = judge, progress, role
        self.name = judge.name

    def identity(self) -> dict[str, Any]:
        """Return the identity of the judge behind it."""
        return self.judge.identity()

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer from the store where possible and ask the judge for the rest.

        Parameters
        ----------
        prompts : sequence of Prompt
            Equal prompts are asked once.
        keep : callable
            Called with position and answer.
        """
        from tqdm import tqdm

        positions: dict[Prompt, list[int]] = {}
        for position, prompt in enumerate(prompts):
            positions.setdefault(prompt, []).append(position)
        identity = self.identity()
        missing: list[Prompt] = []
        for prompt in positions:
            known = self.store.get(_KIND, _key(identity, prompt))
            if known is None:
                missing.append(prompt)
            else:
                for position in positions[prompt]:
                    keep(position, known.decode("utf-8", "surrogatepass"))
        if not missing:
            return
        problem = self.store.problem()
        if problem is not None:
            raise ConfigError(
                f"the {self.role.name}'s answers cannot be kept in {self.store.path} ({problem}). Name "
                "another file with --judge-cache"
            )
        hidden = None if self.progress else True  # None: only where there is a terminal
        done = len(positions) - len(missing)
        with tqdm(total=len(positions), initial=done, desc=self.role.name, disable=hidden) as bar:

            def arrived(index: int, answer: str) -> None:
                if parse_error(answer) is None:
                    key = _key(identity, missing[index])
                    self.store.put(_KIND, key, answer.encode("utf-8", "surrogatepass"))
                for position in positions[missing[index]]:
                    keep(position, answer)
                bar.update()

            self.judge.ask(missing, arrived)


def _key(identity: Mapping[str, Any], prompt: Prompt) -> str:
    content = [_CACHE_SCHEME, identity, prompt.messages()]
    return sha256_of_text(json.dumps(content, sort_keys=True, ensure_ascii=False))


def ask_all(judge: Judge, prompts: Sequence[Prompt]) -> list[str]:
    """Return the answers of a judge in the order of the prompts.

    Parameters
    ----------
    judge : Judge
        Any.
    prompts : sequence of Prompt
        What to ask.

    Returns
    -------
    list of str
        Raw answers, or error replies.
    """
    answers: dict[int, str] = {}
    judge.ask(prompts, answers.__setitem__)
    return [
        answers.get(i) or error_reply("the model gave no answer", fix="score again")
        for i in range(len(prompts))
    ]
