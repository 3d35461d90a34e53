"""Every method of the contract has somebody here who answers it, of its kind."""

from contract.methods.registry import METHODS
from kernel.methods import HANDLERS, JOB_HANDLERS
from tests.kernel_process import KernelProcess

METHOD_NOT_FOUND = -32601


def named(*kinds: str) -> set[str]:
    """The methods of these kinds."""
    return {name for name, method in METHODS.items() if method.kind in kinds}


def test_a_job_of_the_contract_is_a_job_here() -> None:
    assert JOB_HANDLERS.keys() == named("job")


def test_everything_else_that_is_asked_is_answered_by_somebody() -> None:
    asked = named("control", "query")
    assert HANDLERS.keys() < asked
    with KernelProcess() as kernel:
        kernel.initialize()
        for name in sorted(asked - HANDLERS.keys()):
            answer = kernel.request(name, {"no such field": 1})
            assert answer.get("error", {}).get("code") != METHOD_NOT_FOUND, name
        assert kernel.request("no such method")["error"]["code"] == METHOD_NOT_FOUND
