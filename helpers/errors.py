"""The errors a learner can meet, each a sentence with its next step.

CourseError
├── UnknownModel          a name that the catalog does not have (also a LookupError)
├── ModelUnavailable      the model's files cannot be had here
│   ├── NetworkNeeded     they are elsewhere and no network answers
│   └── DamagedFile       they came, but are not what was promised
├── NotEnough             this machine is too small for the step (also an OSError)
│   ├── NotEnoughDisk
│   └── NotEnoughMemory
├── BackendUnavailable    the engine is not installed, or not for this model
├── EngineFault           the engine behind the course's own server could not go on
├── InvalidInput          an argument or a text that cannot be used (also a ValueError)
│   └── UnsupportedOption an option that this backend cannot honour
├── ChatClosed            the chat was closed, and its model left the memory
├── ContextOverflow       the conversation is longer than the model's context
└── RemoteError           a model that runs elsewhere did not answer as asked
    ├── KeyMissing        its provider needs a key and none is set
    ├── WrongKey          401: the key is not known there, or it cannot be one at all
    ├── NoPermission      403: the key may not do this
    ├── ModelGone         404, 410: the model is unknown there, or retired
    ├── RequestRefused    400, 422 and their like: the request cannot be used
    │   └── RequestTooLarge  413
    ├── QuotaExceeded     429: too much was asked in too short a time
    ├── ServerFault       500 and above
    ├── ContentFiltered   the provider's filter stopped the question or the answer
    ├── UnreadableAnswer  what came is not the answer of a language model
    ├── TimedOut          nothing came for too long
    └── Unreachable       nothing answers at the address
        ├── UnknownAddress      its name does not resolve, or it is no address
        ├── CertificateRefused  who answers cannot prove to be it
        └── ConnectionLost      it was reached, and the line broke

A message says what happened and what it means; `next_step` says what to do about it. In a notebook the
error shows as those sentences alone, without a traceback of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from helpers.records import Reply


class CourseError(Exception):
    """An error whose message is written for the learner: what happened, what it means, the next step."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(f"{message}\n→ {next_step}" if next_step else message)
        self.message = message
        self.next_step = next_step

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython prints in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class UnknownModel(CourseError, LookupError):
    """A model name that the catalog does not have."""


class ModelUnavailable(CourseError):
    """The model's files cannot be had on this machine."""


class NetworkNeeded(ModelUnavailable):
    """The model's files are elsewhere and no network answers."""


class DamagedFile(ModelUnavailable):
    """A file came, but is not what its hash promises."""


class NotEnough(CourseError, OSError):
    """This machine is too small for the step."""


class NotEnoughDisk(NotEnough):
    """Less free disk than the step needs."""


class NotEnoughMemory(NotEnough):
    """Less free memory than the step needs."""


class BackendUnavailable(CourseError):
    """The engine is not installed here, or cannot serve this model."""


class EngineFault(CourseError):
    """The engine behind the course's own server could not go on."""


class InvalidInput(CourseError, ValueError):
    """An argument or a text that cannot be used."""


class UnsupportedOption(InvalidInput):
    """A sampling option that this backend cannot honour."""


class ChatClosed(CourseError):
    """The chat was closed, so there is no model to ask."""


class ContextOverflow(CourseError):
    """The conversation and the room for its answer are longer than the model's context."""


class RemoteError(CourseError):
    """A model that runs elsewhere did not answer as asked.

    `attempts` counts the requests that were made for the call, `status` is the HTTP status where there was one, and
    `reply` holds what had arrived of an answer that broke off, with the finish reason "interrupted".
    """

    #: Whether the same request may succeed a little later.
    worth_retrying: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        next_step: str = "",
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, next_step)
        self.status, self.retry_after_seconds = status, retry_after_seconds
        self.attempts = 1
        self.reply: Reply | None = None


class KeyMissing(RemoteError):
    """The provider needs a key and none is set."""


class WrongKey(RemoteError):
    """The provider does not know the key, or the text cannot be a key."""


class NoPermission(RemoteError):
    """The key is known and may not do this."""


class ModelGone(RemoteError):
    """The provider does not have the model, or no longer."""


class RequestRefused(RemoteError):
    """The provider cannot use the request as it is."""


class RequestTooLarge(RequestRefused):
    """The request has more bytes than the provider takes."""


class QuotaExceeded(RemoteError):
    """More was asked than the key may ask in this time."""

    worth_retrying = True


class ServerFault(RemoteError):
    """The provider failed at a request that it understood."""

    worth_retrying = True


class ContentFiltered(RemoteError):
    """The provider's filter stopped the question or the answer."""


class UnreadableAnswer(RemoteError):
    """What came back is not the answer of a language model."""


class TimedOut(RemoteError):
    """Nothing came for longer than the call may wait."""


class Unreachable(RemoteError):
    """Nothing answers at the provider's address."""


class UnknownAddress(Unreachable):
    """The name in the address does not resolve, or the address is none."""


class CertificateRefused(Unreachable):
    """Who answers cannot prove to be the provider."""


class ConnectionLost(Unreachable):
    """The provider was reached, and the connection broke before the answer was whole."""

    worth_retrying = True
