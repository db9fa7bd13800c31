"""Items on their way through a model class: questions in, answers out, failures named.

lm_eval hands over requests; a `Question` is what is prepared once, with the requests that share it. An
`Answers` puts what comes back into the order of the requests, counts what was heard and what failed,
and hands each answer on as it comes, to be kept.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mmaupro_ext import heard
from mmaupro_ext.errors import ItemError, MMAUProError
from mmaupro_ext.failing import Failed, Streak
from mmaupro_ext.heard import Reply
from mmaupro_ext.masking import masked
from mmaupro_ext.models.media import media_key, media_of, names_of
from mmaupro_ext.replies import error_reply
from mmaupro_ext.util import visible

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from tqdm import tqdm

logger = logging.getLogger(__name__)

R = TypeVar("R")

# A log-probability (natural logarithm), and whether greedy decoding would write the continuation.
Score = tuple[float, bool]
NO_SCORE: Score = (math.nan, False)


@dataclass
class Question:
    """What is prepared once: one prompt with its media, and the requests that share it.

    Parameters
    ----------
    context : str
        The prompt as the task (or the chat template) wrote it.
    media : dict
        References by kind.
    members : list of int
        Positions of the requests in the call.
    continuations : list of str
        One per member, for log-likelihood requests.
    item : str
        Task and id of the item that asks, for messages.
    """

    context: str
    media: dict[str, list[Any]]
    members: list[int] = field(default_factory=list)
    continuations: list[str] = field(default_factory=list)
    item: str = ""


def item_name(request: Instance) -> str:
    """Return how messages call the item of a request: by task and by the id that its data gives."""
    doc = request.doc if isinstance(request.doc, dict) else {}
    return f"{request.task_name or 'item'} {doc.get('id', request.doc_id)}"


def questions_of(requests: Sequence[Instance]) -> list[Question]:
    """Return a question for each request that wants a reply."""
    return [
        Question(
            request.args[0],
            media_of(request.args),
            members=[position],
            item=item_name(request),
        )
        for position, request in enumerate(requests)
    ]


def choices_of(requests: Sequence[Instance]) -> list[Question]:
    """Return a question for each prompt of log-likelihood requests, with all its continuations."""
    questions: dict[tuple[str, str], Question] = {}
    for position, request in enumerate(requests):
        context, continuation = request.args[:2]
        # An empty context asks for the unconditional probability: nothing is to be heard.
        media = media_of(request.args) if context else {}
        question = questions.setdefault(
            (context, media_key(media)), Question(context, media, item=item_name(request))
        )
        question.members.append(position)
        question.continuations.append(continuation)
    return list(questions.values())


def with_arguments(request: Instance, arguments: tuple[Any, ...]) -> Instance:
    """Return a request with other arguments, or the same one where they are its own."""
    if request.args == arguments:
        return request
    changed = copy.copy(request)
    changed.arguments = arguments
    return changed


def tasks_of(requests: Sequence[Instance]) -> str:
    """Return the names of the tasks of requests, for messages."""
    names = sorted({request.task_name or "a request" for request in requests})
    return ("task " if len(names) == 1 else "tasks ") + ", ".join(names)


class Answers:
    """The answers to the requests of one call, in their order, as they come.

    Parameters
    ----------
    requests : sequence of Instance
        Of the call.
    kind : {"generate_until", "loglikelihood"}
        What lm_eval's cache calls it.
    totals : Totals
        Counts what was heard, and errored items.
    cache_hook : object
        Told of each answer as it comes, failures among them (`resuming.Resumed`).
    bar : tqdm
        Moved on by each request.
    """

    def __init__(
        self,
        requests: Sequence[Instance],
        kind: str,
        totals: heard.Totals,
        cache_hook: Any,
        bar: tqdm,
    ) -> None:
        self._requests, self._kind = requests, kind
        self._totals, self._cache_hook, self._bar = totals, cache_hook, bar
        self._found: dict[int, Any] = {}

    def keep(self, question: Question, answers: Sequence[Any]) -> None:
        """Keep the answers to a question, one for each of its members."""
        if heard.is_errored(list(answers)):
            self._totals.errored_items += 1
        elif (record := heard.record_of(list(answers))) is not None:
            self._totals.add(record)
        for position, answer in zip(question.members, answers, strict=True):
            self._found[position] = answer
            self._cache_hook.add_partial(self._kind, self._requests[position].args, answer)
            if watch := getattr(self._cache_hook, "watch", None):
                watch.add(self._requests[position], answer)
                self._bar.set_postfix_str(watch.line(), refresh=False)
        self._bar.update(len(question.members))

    def in_order(self) -> list[Any]:
        """Return all answers in the order of the requests."""
        return [self._found[position] for position in range(len(self._requests))]


# ---- failures ----------------------------------------------------------------------------------


def attempt(question: Question, task: Callable[[], R]) -> R | Reply | Failed:
    """Return what `task` returns, or the error reply of an item that cannot be served.

    What nobody raised on purpose comes back as `Failed`, for the `Failures` of the one that takes the
    items in their order.
    """
    try:
        return task()
    except ItemError as error:
        return failure(question, error.problem, error.fix, error.path)
    except MMAUProError:
        raise
    except OSError as error:
        return failure(question, str(error), "Check that the file can be read.")
    except Exception as error:
        logger.debug("%s: preparing fails", question.item, exc_info=True)
        return Failed.of(error)


class Failures(Streak):
    """Items that the model, or what prepares its input, fails on.

    Parameters
    ----------
    what : str
        What fails: "the model".
    fix : str
        What the user can do when it fails on everything, in whole sentences.
    """

    def settle(self, question: Question, result: R | Failed) -> R | Reply:
        """Return a result, or its error reply where there is none; see `reply`."""
        if isinstance(result, Failed):
            return self.reply(question, result)
        self.end()
        return result

    def reply(self, question: Question, failed: Failed) -> Reply:
        """Return the error reply of an item.

        Raises
        ------
        ConfigError
            When too many items in a row have failed alike.
        """
        self.add(failed)
        if failed.out_of_memory:
            return failure(
                question,
                f"out of memory, with this item alone in its batch ({failed.problem})",
                "Use a machine with more memory, a smaller dtype, or parallelize=True.",
            )
        return failure(
            question,
            f"{self.what} fails on this item ({failed.problem})",
            "Other items are not concerned. `mmaupro doctor` tries a checkpoint on clips of its own.",
        )


def failure(question: Question, problem: str, fix: str | None, file: str | None = None) -> Reply:
    """Log that an item cannot be served and return its error reply.

    Parameters
    ----------
    question : Question
        The item.
    problem : str
        What is wrong, in one clause.
    fix : str or None
        What the user can do about it.
    file : str, optional
        The file concerned; default: all files of the item.
    """
    problem = masked(problem)
    file = file or names_of(question.media) or None
    named = f"{question.item}, {file}" if file else question.item
    logger.error("%s", visible(f"{named}: {problem}. {fix or ''}"))
    return Reply(error_reply(problem, item=question.item, file=file, fix=fix), finish=heard.ERROR)
