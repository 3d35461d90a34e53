"""What schemathesis has to know beside the document: where a text would reach this machine, and which
refusals of requests that the document allows are right.

It runs in a process of its own, which tests/e2e/schemathesis.toml tells to load this.
"""

import os
import re
from typing import Any, Final, NamedTuple

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

#: The folder that stands in for every other one, so that no real folder is indexed and nothing in it trashed.
FOLDER_VARIABLE: Final = "LORAKEET_TEST_FOLDER"

_ACCEPTED: Final = "ST201"
_REJECTED: Final = "ST202"
_WRONG_TO_UNDECLARED: Final = "ST204"
_IGNORED_AUTH: Final = "ST401"


class Reason(NamedTuple):
    """Why a request may be refused that JSON Schema has nothing against: by the code of the problem, and by
    the place and the words of each of its errors. Of types JSON Schema knows enough."""

    code: str
    why: str
    pointer: str = ""
    words: str = "^(?!expected )"


UNSAYABLE: Final = (
    Reason("stale_version", "Which ETag is the one of now, only the studio knows."),
    Reason("key_reused", "Which keys were used, only the studio knows."),
    Reason("path_outside_roots", "Where a path leads, only the studio knows."),
    Reason("file_missing", "Which files there are, only the studio knows."),
    Reason("file_unreadable", "What is a file and what a folder, only the studio knows."),
    Reason("weights_format", "What is in a file, only the studio knows."),
    Reason("weights_damaged", "What is in a file, only the studio knows."),
    Reason("settings_invalid", "Settings depend on each other, and on this machine."),
    Reason("invalid_params", "Cursors are opaque.", "^#/query/cursor$"),
    Reason("invalid_params", "States are a list with commas in one text.", "^#/query/state$"),
    Reason("invalid_params", "Each kind has settings of its own; see GET /job-kinds.", "^#/settings", ""),
    Reason("invalid_params", "Which kinds there are, GET /job-kinds says.", "^#/kind$", "is none of"),
    Reason("invalid_params", "Which presets there are, only the studio knows.", "^#/preset$"),
    Reason("invalid_params", "Each kind takes sources of its own.", "^#/(source|existing)"),
    Reason("invalid_params", "What is a path on every system, no pattern says.", "^#/(output|folder)"),
    Reason("invalid_params", "What is a path on every system, no pattern says.", words="^The path "),
    Reason("invalid_params", "What is a folder here, only the studio knows.", "^#/(roots|model_folders)"),
    Reason("invalid_params", "What is the name of a host, no pattern says.", "^#/access"),
    Reason("invalid_params", "Each device is named once.", "^#/devices"),
    Reason("invalid_params", "Which jobs wait, only the studio knows.", "^#/(job_ids?|before|after)"),
    Reason("invalid_params", "To JSON Schema 243.0 is an integer.", words="expected `int.*`, got `float`"),
    Reason("invalid_params", "One field depends on another.", words="give (exactly one|both or none) of"),
    Reason("invalid_params", "One field depends on another.", words="is required, unless"),
    Reason("invalid_params", "Roots are named by the settings.", words="There is no root"),
    # Schemathesis finds no example of it, and sends 0.
    Reason("invalid_params", "A long text of a pattern.", "^#$", "expected `object`, got `int`"),
)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether it is one."""
    if failure.code == _REJECTED:
        return not _is_unsayable(response)
    if failure.code == _ACCEPTED:
        # A part of a form is a file, whatever its bytes were meant to be.
        return not (case.media_type == "multipart/form-data" and "violates `type`" in failure.message)
    if failure.code == _IGNORED_AUTH:
        # After ten wrong tokens in a minute all wrong ones have to wait, which lets in nobody either.
        return "429" not in failure.message
    if failure.code == _WRONG_TO_UNDECLARED:
        # By GET, /models/rescan is a model of that name, of which there is none.
        return not (case.operation.path.endswith("/models/rescan") and response.status_code == 404)
    return True


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Keep the settings off the folders of this machine."""
    if case.operation.definition.raw.get("operationId") == "change_settings" and isinstance(case.body, dict):
        case.body = _harmless(case.body)


def _is_unsayable(response: Response) -> bool:
    problem = response.json()
    errors = problem["errors"] or [{"pointer": "", "detail": problem["detail"]}]
    return all(any(_fits(reason, problem["code"], each) for reason in UNSAYABLE) for each in errors)


def _fits(reason: Reason, code: str, error: dict[str, str]) -> bool:
    has_place = re.search(reason.pointer, error["pointer"]) is not None
    return code == reason.code and has_place and re.search(reason.words, error["detail"]) is not None


def _harmless(value: Any) -> Any:
    match value:
        case dict():
            return {
                name: _folder(each) if name == "path" else _harmless(each) for name, each in value.items()
            }
        case list():
            return [_harmless(each) for each in value]
    return value


def _folder(path: Any) -> Any:
    is_folder = isinstance(path, str) and (os.path.isabs(path) or path.startswith("~"))
    return os.environ[FOLDER_VARIABLE] if is_folder else path
