"""The table of methods."""

import subprocess
import sys

import pytest

from contract.methods.registry import METHODS, Method

_JOBS = ("tag", "train", "merge", "resize", "metadata", "inspect")


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_the_versions_that_the_handshake_says_are_those_of_the_payload(method: Method) -> None:
    assert list(method.versions) == method.payload.versions == method.info().payload_versions


def test_types_are_made_once() -> None:
    assert METHODS["tag"].types is METHODS["tag"].types


def test_a_handshake_needs_no_struct_of_a_job() -> None:
    source = (
        "import sys, contract.methods.registry as it\n"
        "answer = [method.info() for method in it.METHODS.values()]\n"
        f"print([name for name in {_JOBS} if f'contract.methods.{{name}}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_a_training_takes_orders_and_goes_on_where_it_stopped() -> None:
    assert [name for name, each in METHODS.items() if each.types.actions] == ["train"]
    assert [name for name, each in METHODS.items() if each.resumable] == ["train"]
