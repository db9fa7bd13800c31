"""A model that is asked only for what its journal does not hold, and whose answers are kept as they come.

`Resumed` stands between lm_eval and a model of ours, as lm_eval's own response cache does for others. It
plays the part of that cache's hook, which `HFLM` calls with each answer to a request of text, and our
classes with all others: so a run of sound, pictures and text is kept whole.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mmaupro_ext.errors import MMAUProError
from mmaupro_ext.models.journal import Journal
from mmaupro_ext.models.journal_lines import (
    Address,
    decode,
    digest_of_request,
    encode,
    is_failure,
)
from mmaupro_ext.util import sha256_of_text

if TYPE_CHECKING:
    import os

    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)


class TooManyErrorsError(MMAUProError):
    """More items errored than `--max-errors` allows."""


@dataclass
class Settings:
    """How a run is resumed, and what its journal says of it.

    Parameters
    ----------
    retry_errors : bool
        Whether items that errored before are asked again.
    max_errors : int, optional
        How many errored items end the run, those of the journal among them; each of several
        processes counts its own.
    seed : object
        What seeds the sampling: sampled replies are found again under the same one only.
    facts : dict
        What the journal says of the run: `command`, `model`, `tasks`, `asked`.
    """

    retry_errors: bool = False
    max_errors: int | None = None
    seed: Any = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """How far a process got: requests in all, those answered, and the items among them that errored."""

    requests: int = 0
    answered: int = 0
    errored: int = 0


class Resumed:
    """A model of ours with its journal; all else is the model's own.

    Parameters
    ----------
    lm : lm_eval.api.model.LM
        With `identity()`; its cache hook is set.
    place : path-like
        Folder of the journal (see `journal`).
    settings : Settings, optional
        Default: nothing is asked again that errored, nothing ends the run.

    Attributes
    ----------
    tasks : mapping
        Name -> task whose requests will be asked; from them the log says how much is left.
    watch : report.live.LiveScores or None
        Told of each answer, those of the journal too; says what stands in the progress line.

    Raises
    ------
    ConfigError
        When the journal cannot be read.
    """

    def __init__(
        self, lm: Any, place: str | os.PathLike[str], settings: Settings | None = None
    ) -> None:
        self.lm = lm
        self.settings = settings or Settings()
        self.journal = Journal(place, lm.identity())
        self.tasks: Mapping[str, Any] = {}
        self.watch: Any = None
        self.progress = Progress()
        self._errored: set[tuple[str, Any]] = set()
        self._answered: set[Address] = set()  # by this process, errors included
        self._waiting: dict[str, deque[Address]] = {}
        # By the id of a request's arguments, which are kept with it: no other can have it meanwhile.
        self._digests: dict[int, tuple[Any, str | None]] = {}
        self._began = False
        self._seed = self.settings.seed
        if self._seed is None and "torch" in sys.modules:
            self._seed = sys.modules["torch"].initial_seed()
        lm.set_cache_hook(self)

    def __getattr__(self, name: str) -> Any:
        if name == "lm":  # not there yet, while this is copied
            raise AttributeError(name)
        return getattr(self.lm, name)

    # ---- requests -----------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Answer requests: from the journal, else by the model."""
        return self._ask("generate_until", requests, options)

    def loglikelihood(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Score continuations: from the journal, else by the model."""
        return self._ask("loglikelihood", requests, options)

    def loglikelihood_rolling(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Score whole texts: from the journal, else by the model."""
        return self._ask("loglikelihood_rolling", requests, options)

    def _ask(
        self, kind: str, requests: Sequence[Instance], options: Mapping[str, Any]
    ) -> list[Any]:
        if not self._began:
            self._begin(kind, requests)
        addresses = self._addresses(kind, requests)
        found = [self._find(kind, *entry) for entry in zip(requests, addresses, strict=True)]
        answers = [None if entry is None else decode(entry) for entry in found]
        left = [number for number, entry in enumerate(found) if entry is None]
        if self.watch is not None:
            for number, entry in enumerate(found):
                if entry is not None:
                    self.watch.add(requests[number], answers[number])
        if not left:
            return answers
        if kind == "generate_until" and len(left) < len(requests):
            self._seed_anew([requests[number] for number in left])
        self._waiting = {}
        for number in left:
            if (address := addresses[number]) is not None:
                self._waiting.setdefault(address.request, deque()).append(address)
        given = getattr(self.lm, kind)([requests[number] for number in left], **options)
        for number, answer in zip(left, given, strict=True):
            answers[number] = answer
            address = addresses[number]
            # What came without a word before, or in another order than like requests were put.
            if address is not None:
                entry = encode(answer)
                if self.journal.find(address, alike=False) != entry:
                    self._keep(address, entry)
        self._waiting = {}
        if (
            not self.tasks
        ):  # the next call may have other requests, and other files under their paths
            self._digests.clear()
        self.journal.sync()
        return answers

    def add_partial(self, kind: str, arguments: tuple[Any, ...], answer: Any) -> None:
        """Keep an answer as it comes: the part of lm_eval's cache hook.

        Raises
        ------
        NotKeptError
            When it cannot be written.
        TooManyErrorsError
            When it is one error more than the run may have.
        """
        digest = self._digest(kind, arguments)
        if digest is not None and (waiting := self._waiting.get(digest)):
            self._keep(waiting.popleft(), encode(answer))

    def _keep(self, address: Address, entry: dict[str, Any]) -> None:
        self.journal.keep(address, entry)
        if address not in self._answered:
            self._answered.add(address)
            self.progress.answered += 1
        if is_failure(entry):
            self._count_errors([address])

    def _count_errors(self, addresses: Iterable[Address]) -> None:
        self._errored.update((address.task, address.doc) for address in addresses)
        count = self.progress.errored = len(self._errored)
        most = self.settings.max_errors
        if most is not None and count >= most:
            self.journal.sync()
            raise TooManyErrorsError(
                f"{count} items errored, and --max-errors {most} ends the run there. "
                f"{self.progress.answered} of {self.progress.requests} answers are kept in "
                f"{self.journal.folder}, the errors among them with what to do. Then start the same "
                "command with --retry-errors, or with more errors allowed."
            )

    # ---- the journal --------------------------------------------------------------------------

    def _begin(self, kind: str, requests: Sequence[Instance]) -> None:
        """Say how much of the run is kept already, and begin the file of this process."""
        self._began = True
        asked: dict[str, list[Instance]] = {}
        for task in self.tasks.values():
            for one in task.instances:
                asked.setdefault(one.request_type, []).extend([one] * (one.repeats or 1))
        asked = asked or {kind: list(requests)}
        found, failed = 0, []
        for kind, some in asked.items():
            for one, address in zip(some, addresses := self._addresses(kind, some), strict=True):
                entry = self._find(kind, one, address)
                found += entry is not None
                if entry is not None and address is not None and is_failure(entry):
                    failed.append(address)
            if None in addresses:
                logger.warning(
                    "%d requests hold media that cannot be told from others (neither files, arrays, "
                    "pictures nor bytes): their answers are not kept",
                    addresses.count(None),
                )
        total = sum(map(len, asked.values()))
        self.progress = Progress(total, found)
        self.journal.start(
            {
                **self.settings.facts,
                "rank": self.lm.rank,
                "processes": self.lm.world_size,
                "requests": total,
                "found": found,
                "errored": len({(address.task, address.doc) for address in failed}),
            }
        )
        if self.lm.rank == 0:
            self._say(total, found, len(failed))
        self._count_errors(failed)

    def _say(self, total: int, found: int, failed: int) -> None:
        folder, since = self.journal.folder, self.journal.since
        if not found:
            logger.info("answers are kept as they come in %s", folder)
            return
        of_one = " of this process" if self.lm.world_size > 1 else ""
        errors = f" ({failed} of them are errors; --retry-errors asks them again)" if failed else ""
        logger.warning(
            "%d of %d answers%s come from the journal of %s%s; delete %s to begin anew",
            *(found, total, of_one),
            datetime.fromisoformat(since).astimezone().strftime("%Y-%m-%d %H:%M") if since else "?",
            *(errors, folder),
        )

    def _find(self, kind: str, request: Instance, address: Address | None) -> dict[str, Any] | None:
        if address is None:
            return None
        alike = not (kind == "generate_until" and _is_sampled(request.args))
        entry = self.journal.find(address, alike=alike)
        if entry is not None and self.settings.retry_errors and is_failure(entry):
            return None
        return entry

    def _addresses(self, kind: str, requests: Sequence[Instance]) -> list[Address | None]:
        counts: Counter[tuple[str, str, int | None]] = Counter()
        addresses: list[Address | None] = []
        for one in requests:
            digest = self._digest(kind, one.args)
            self._digests[id(one.args)] = (one.args, digest)
            if digest is None:
                addresses.append(None)
                continue
            spot = (digest, one.task_name or "", one.doc_id)
            addresses.append(Address(*spot, counts[spot]))
            counts[spot] += 1
        return addresses

    def _digest(self, kind: str, arguments: tuple[Any, ...]) -> str | None:
        if (known := self._digests.get(id(arguments))) is not None:
            return known[1]
        sampled = kind == "generate_until" and _is_sampled(arguments)
        return digest_of_request(kind, arguments, *([["seed", self._seed]] if sampled else []))

    # ---- sampling -----------------------------------------------------------------------------

    def _seed_anew(self, requests: Sequence[Instance]) -> None:
        """Sample on with other numbers than those that the first part of the run began with.

        A second reply to a request would else be drawn as the first one was, and be the same.
        """
        if "torch" in sys.modules and any(_is_sampled(one.args) for one in requests):
            told = sha256_of_text(f"{self._seed} {len(self.journal)}")
            sys.modules["torch"].manual_seed(int(told[:15], 16))


def _is_sampled(arguments: tuple[Any, ...]) -> bool:
    """Tell whether a request for a reply wants it sampled, as lm_eval reads its options."""
    options = arguments[1]
    sampled = options.get("do_sample")
    return float(options.get("temperature") or 0.0) > 0.0 if sampled is None else bool(sampled)
