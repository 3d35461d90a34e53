"""What the exit code of a command says."""

from enum import IntEnum
from typing import Final

from contract.errors import (
    AccessError,
    BodyInvalid,
    ContractError,
    InputError,
    InvalidParams,
    JobCanceled,
    JobIdentityError,
    KernelError,
    KeyReused,
    LorakeetError,
    MediaTypeWrong,
    MethodNotAllowed,
    NotReady,
    ProtocolError,
    RequestError,
    SettingsInvalid,
    StoreLocked,
    StoreTooNew,
    VersionRequired,
)
from orchestrator.cli import streams


class Exit(IntEnum):
    """Exit codes; scripts may rely on them."""

    DONE = 0
    BUG = 1
    USAGE = 2
    REFUSED = 3
    SOME_FAILED = 4
    NO_KERNEL = 5
    FAILED = 6
    PROBLEMS = 7
    NO_STUDIO = 8
    INTERRUPTED = 130
    UNHEARD = streams.UNHEARD
    TERMINATED = 143


#: What each code means, for the help and the documentation.
MEANINGS: Final = {
    Exit.DONE: "Everything asked for is done.",
    Exit.BUG: "A bug in Lorakeet.",
    Exit.USAGE: "A flag, setting or settings file is wrong.",
    Exit.REFUSED: (
        "It cannot be done as it stands: a folder, model or image cannot be used, there is no such thing, or "
        "it is in another state. Nothing was changed."
    ),
    Exit.SOME_FAILED: "Done, but some images failed; each was named.",
    Exit.NO_KERNEL: (
        "No kernel did it: none is installed, or it died, was told by somebody else to leave, speaks another "
        "version, or did not answer. What was finished is kept."
    ),
    Exit.FAILED: "The job failed while it ran: memory, disk, download, a library.",
    Exit.PROBLEMS: "`doctor` found problems.",
    Exit.NO_STUDIO: (
        "No studio did it: none runs, it does not answer or is not ready, or another one has the data "
        "directory."
    ),
    Exit.INTERRUPTED: "Interrupted with Ctrl+C. What was finished is kept.",
    Exit.UNHEARD: (
        "The output cannot be written any more: its reader has left (as `| head` does), or its disk is full. "
        "What was finished is kept."
    ),
    Exit.TERMINATED: "Ended by SIGTERM. What was finished is kept.",
}


def exit_for(error: LorakeetError) -> Exit:
    """The exit code of a command that ended with `error`."""
    match error:
        case SettingsInvalid() | InvalidParams():
            return Exit.USAGE
        case NotReady() | StoreLocked():
            return Exit.NO_STUDIO
        # What only a client that writes requests can do wrong, and here we are the client.
        case BodyInvalid() | MediaTypeWrong() | MethodNotAllowed() | VersionRequired() | KeyReused():
            return Exit.BUG
        case RequestError() | AccessError() | StoreTooNew():
            return Exit.REFUSED
        # A job that we cancel ends as Ctrl+C does; this one was canceled by a kernel that had to leave.
        case JobCanceled():
            return Exit.NO_KERNEL
        case ProtocolError() | JobIdentityError():
            return Exit.BUG
        case KernelError() | ContractError():
            return Exit.NO_KERNEL
        case InputError():
            return Exit.REFUSED
        case _:
            return Exit.FAILED
