"""The error tree. Every message is one sentence: what happened; what stays intact; what to do next.

    ProvisionError                  exit code 1
    |- UsageError                   2   the request or a file that a person wrote is wrong
    |  |- UnknownProfileError
    |  |- CatalogueError                file, line and field
    |  `- SettingsError
    |- RefusedError                 3   the request is right, this host cannot do it
    |  |- HardwareMissingError
    |  |- NoRoomError
    |  |- PortTakenError
    |  |- WrongHostError
    |  `- StateFolderError
    |- BusyError                    4   another run holds this host
    |- StageError                   5   something outside failed while it was being done
    |  |- PullError
    |  |  |- SourceUnavailableError     another try may help
    |  |  |- SourceRefusedError         trying again does not help
    |  |  `- DigestMismatchError
    |  |- ServeError
    |  |  |- ServerDiedError             why, in one clause; its log is kept
    |  |  |- ImageUnavailableError       another try may help
    |  |  `- ImageRefusedError           trying again does not help
    |  |- VerifyError
    |  |- RouteError
    |  |  `- HandWrittenError          2   a config or environment file that a person wrote is wrong
    |  `- ControlPlaneError             Prefect server or worker
    `- StoppedError                 130 a person or the system asked to stop

Errors keep positional `args`, so that they pickle.
"""

from __future__ import annotations

from typing import ClassVar


class ProvisionError(Exception):
    """Raised when a run cannot go on. Base of all errors that a person is meant to read.

    Args:
        what: What happened, without a final stop.
        intact: What stays as it was.
        then: What to do next, as an imperative.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, intact: str, then: str) -> None:
        super().__init__(what, intact, then)
        self.what = what
        self.intact = intact
        self.then = then

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.what}; {self.intact}; {self.then}."


class UsageError(ProvisionError):
    """Raised when the request, or a file that a person wrote, is wrong."""

    exit_code = 2


class UnknownProfileError(UsageError):
    """Raised when no profile has the name that was asked for."""


class CatalogueError(UsageError):
    """Raised when a file below `profiles/` is wrong; `what` names file, line and field."""


class SettingsError(UsageError):
    """Raised when an environment variable or an option has a value that cannot be used."""


class RefusedError(ProvisionError):
    """Raised when this host cannot do what was asked."""

    exit_code = 3


class HardwareMissingError(RefusedError):
    """Raised when a named profile asks for hardware that the host does not have."""


class NoRoomError(RefusedError):
    """Raised when a disk or a memory is too small for the plan."""


class PortTakenError(RefusedError):
    """Raised when somebody else listens on a port that the plan needs."""


class WrongHostError(RefusedError):
    """Raised when a run for one host was started on another."""


class StateFolderError(RefusedError):
    """Raised when the state folder or the weight store cannot be written."""


class BusyError(ProvisionError):
    """Raised when another run holds this host."""

    exit_code = 4


class StageError(ProvisionError):
    """Raised when something outside this program failed during a stage."""

    exit_code = 5


class PullError(StageError):
    """Raised when weights could not be brought to the disk."""


class SourceUnavailableError(PullError):
    """Raised when a source does not answer or broke off; another try may help."""

    retryable = True


class SourceRefusedError(PullError):
    """Raised when a source answers that it will not or cannot give the files."""


class DigestMismatchError(PullError):
    """Raised when bytes do not have the digest that the catalogue pins."""


class ServeError(StageError):
    """Raised when a model server does not start or does not stay up."""


class ServerDiedError(ServeError):
    """Raised when a model server ends while it starts; `what` has the cause."""


class ImageUnavailableError(ServeError):
    """Raised when a container image cannot be had now."""

    retryable = True


class ImageRefusedError(ServeError):
    """Raised when there is no such image, or its bytes are not what its digest says."""


class VerifyError(StageError):
    """Raised when a model server answers wrongly, too late or not at all."""


class RouteError(StageError):
    """Raised when the gateway's config is not valid or the gateway does not serve it."""


class HandWrittenError(RouteError):
    """Raised when a config or an environment file that a person wrote is wrong, or clashes with ours."""

    exit_code = 2


class ControlPlaneError(StageError):
    """Raised when the Prefect server or a worker does not start or does not answer."""


class StoppedError(ProvisionError):
    """Raised when a person or the system asked the run to stop."""

    exit_code = 130
