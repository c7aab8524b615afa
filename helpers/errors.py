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
├── InvalidInput          an argument or a text that cannot be used (also a ValueError)
│   └── UnsupportedOption an option that this backend cannot honour
└── ContextOverflow       the conversation is longer than the model's context

A message says what happened and what it means; `next_step` says what to do about it. In a notebook the
error shows as those sentences alone, without a traceback of ours.
"""

from __future__ import annotations


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


class InvalidInput(CourseError, ValueError):
    """An argument or a text that cannot be used."""


class UnsupportedOption(InvalidInput):
    """A sampling option that this backend cannot honour."""


class ContextOverflow(CourseError):
    """The conversation and the room for its answer are longer than the model's context."""
