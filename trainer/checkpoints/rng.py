"""Every source of random numbers that a training run may draw from: read, and set to what was read.

Python's, numpy's and torch's own, the last on every device, as dropout draws from it, and those that a run
made itself, by name. All are exact: the next numbers are those that would have come.
"""

import random
from collections.abc import Mapping

import numpy
import torch

from trainer.checkpoints.state import State

Source = torch.Generator | random.Random | numpy.random.Generator


def seed(number: int) -> None:
    """Begin all that are common at this number, 0 to 2⁶³ − 1."""
    random.seed(number)
    # numpy's takes 32 bits.
    numpy.random.seed(number % 2**32)
    torch.manual_seed(number)


def capture(own: Mapping[str, Source] | None = None) -> State:
    """The states of all of them."""
    return {
        "python": random.getstate(),
        # The five numbers of its legacy generator: the name, 624 words, and where it is in them.
        "numpy": numpy.random.get_state(),
        "torch": torch.get_rng_state(),
        "devices": _devices(),
        "own": {name: _read(source) for name, source in (own or {}).items()},
    }


def restore(state: State, own: Mapping[str, Source] | None = None) -> list[str]:
    """Set all of them to what `capture` gave, and name those that are not here to be set: a device that this
    machine has not, and sources of `own` that were not there then, or are not now."""
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    present = dict(own or {})
    for name in present.keys() & state["own"].keys():
        _set(present[name], state["own"][name])
    return [*_set_devices(state["devices"]), *sorted(present.keys() ^ state["own"].keys())]


def _devices() -> dict[str, torch.Tensor]:
    found = {f"cuda:{index}": each for index, each in enumerate(_cuda_states())}
    if torch.backends.mps.is_available():
        found["mps"] = torch.mps.get_rng_state()
    return found


def _cuda_states() -> list[torch.Tensor]:
    # Asking a device that nobody has used would set it up, which takes memory and time.
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_rng_state_all() if is_used else []


def _set_devices(states: Mapping[str, torch.Tensor]) -> list[str]:
    missing = []
    for name, state in states.items():
        device = torch.device(name)
        if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, device)
        elif device.type == "mps" and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state)
        else:
            missing.append(name)
    return missing


def _read(source: Source) -> State:
    if isinstance(source, torch.Generator):
        return source.get_state()
    if isinstance(source, random.Random):
        return source.getstate()
    return source.bit_generator.state


def _set(source: Source, state: State) -> None:
    if isinstance(source, torch.Generator):
        source.set_state(state)
    elif isinstance(source, random.Random):
        source.setstate(state)
    else:
        source.bit_generator.state = state
