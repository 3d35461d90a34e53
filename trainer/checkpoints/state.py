"""Nested states as JSON and tensors, and back: exactly, and without pickle, which could run any program.

In the JSON, null, booleans, texts, arrays (lists), whole numbers of 64 bits and finite numbers stand for
themselves. Whatever else is an object of one key, which says what it is: `{"tuple": […]}`. Dictionaries are
lists of pairs, `{"dict": [[key, value], …]}`, as the keys of optimizer states are numbers, and order counts.
Tensors keep type, shape and every bit. One tensor at two places is one tensor again; views of one memory
become tensors of their own.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy
import torch

from trainer.weights.dtypes import code_of

#: What may be kept: None, bool, int, float, complex, str, bytes, list, tuple, dict, OrderedDict, torch.Size,
#: torch.dtype, torch.device, tensors, numpy's arrays and numbers.
State = Any
#: What stands in JSON.
Json = Any

_DOUBLE: Final = struct.Struct(">d")
_TENSORS: Final = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
_LEAST, _MOST = -(2**63), 2**63 - 1
#: A name that the format of tensor files keeps for itself.
_TAKEN: Final = "__metadata__"


class StateUnknown(Exception):
    """Raised where a state has something that cannot be kept; `place` is the way to it, as `state/0/mask`.

    From `decoded`, where a state was not written by `encoded`.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


class Encoded(NamedTuple):
    """What goes into the JSON, and the tensors that it names; these are the state's own, uncopied."""

    json: Json
    tensors: dict[str, torch.Tensor]


def encoded(state: State) -> Encoded:
    """Take a state apart. Raises StateUnknown."""
    encoder = _Encoder()
    return Encoded(encoder.encode(state, ""), encoder.tensors)


def decoded(json: Json, tensor: Callable[[str], torch.Tensor]) -> State:
    """The state again, on the CPU; `tensor` gives the numbers of a name, which are copied.

    Raises StateUnknown, and what `tensor` raises.
    """
    return _Decoder(tensor).decode(json)


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        #: By identity, together with the tensor: another one could take the identity of one that is gone.
        self._known: dict[int, tuple[torch.Tensor, Json]] = {}

    def encode(self, value: State, place: str) -> Json:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if _LEAST <= value <= _MOST else {"int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"float": _DOUBLE.pack(value).hex()}
        if kind is list:
            return self._all(value, place)
        if kind in (tuple, torch.Size):
            return {"size" if kind is torch.Size else "tuple": self._all(value, place)}
        if kind in (dict, OrderedDict):
            return {"ordered_dict" if kind is OrderedDict else "dict": self._pairs(value, place)}
        return self._rare(value, place)

    def _rare(self, value: State, place: str) -> Json:
        kind = type(value)
        if kind in _TENSORS:
            return self._tensor(value, place)
        if isinstance(value, numpy.ndarray | numpy.generic):
            tag = "array" if isinstance(value, numpy.ndarray) else "number"
            return {tag: self._tensor(_from_numpy(value, place), place)}
        if kind is complex:
            return {"complex": [self.encode(value.real, place), self.encode(value.imag, place)]}
        if kind is bytes:
            return {"bytes": value.hex()}
        if kind is torch.dtype:
            return {"dtype": str(value).removeprefix("torch.")}
        if kind is torch.device:
            return {"device": str(value)}
        raise StateUnknown(place, f"a {kind.__module__}.{kind.__qualname__}")

    def _all(self, values: list[State] | tuple[State, ...], place: str) -> list[Json]:
        return [self.encode(each, _join(place, index)) for index, each in enumerate(values)]

    def _pairs(self, values: dict[State, State], place: str) -> list[Json]:
        pairs = ((_join(place, key), key, value) for key, value in values.items())
        return [[self.encode(key, inner), self.encode(value, inner)] for inner, key, value in pairs]

    def _tensor(self, tensor: torch.Tensor, place: str) -> Json:
        if id(tensor) not in self._known:
            self._known[id(tensor)] = (tensor, self._new(tensor, place))
        return self._known[id(tensor)][1]

    def _new(self, tensor: torch.Tensor, place: str) -> Json:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
            raise StateUnknown(place, f"a tensor that is no plain one: {tensor.layout}, {tensor.dtype}")
        plain = tensor.detach().resolve_conj().resolve_neg()
        name = self._name(place)
        self.tensors[name] = plain
        try:
            code_of(plain.dtype)
        except KeyError:
            # The files have no such numbers, so their bytes are kept.
            shape = list(plain.shape)
            self.tensors[name] = plain.contiguous().reshape(-1).view(torch.uint8)
            return {"tensor_as": [name, str(plain.dtype).removeprefix("torch."), shape]}
        return {"tensor": name}

    def _name(self, place: str) -> str:
        name = place.encode("utf-8", "backslashreplace").decode() or "value"
        while name in self.tensors or name == _TAKEN:
            name += "'"
        return name


class _Decoder:
    def __init__(self, tensor: Callable[[str], torch.Tensor]) -> None:
        self._tensor = tensor
        self._known: dict[str, torch.Tensor] = {}

    def decode(self, json: Json) -> State:
        if isinstance(json, list):
            return [self.decode(each) for each in json]
        if not isinstance(json, dict):
            return json
        try:
            ((tag, inner),) = json.items()
            return self._tagged(tag, inner)
        except (ValueError, TypeError, AttributeError, struct.error) as error:
            raise StateUnknown(str(json)[:200], "nothing that was written here") from error

    def _tagged(self, tag: str, inner: Json) -> State:
        match tag:
            case "dict" | "ordered_dict":
                pairs = [(self.decode(key), self.decode(value)) for key, value in inner]
                return OrderedDict(pairs) if tag == "ordered_dict" else dict(pairs)
            case "tuple":
                return tuple(self.decode(inner))
            case "size":
                return torch.Size(self.decode(inner))
            case "tensor":
                return self._read(inner)
            case "tensor_as":
                name, dtype, shape = inner
                return self._read(name, dtype, shape)
            case "array" | "number":
                array = self.decode(inner).numpy()
                return array if tag == "array" else array[()]
            case _:
                return self._scalar(tag, inner)

    def _scalar(self, tag: str, inner: Json) -> State:
        match tag:
            case "int":
                return int(inner, 16)
            case "float":
                return _DOUBLE.unpack(bytes.fromhex(inner))[0]
            case "complex":
                return complex(*self.decode(inner))
            case "bytes":
                return bytes.fromhex(inner)
            case "dtype":
                return _dtype(inner)
            case "device":
                return torch.device(inner)
        raise ValueError(tag)

    def _read(self, name: str, dtype: str | None = None, shape: list[int] | None = None) -> torch.Tensor:
        """A copy: what is read lies in the file, and optimizers write to their states."""
        if name not in self._known:
            tensor = self._tensor(name).clone()
            self._known[name] = tensor if dtype is None else tensor.view(_dtype(dtype)).reshape(shape or [])
        return self._known[name]


def _join(place: str, key: State) -> str:
    return f"{place}/{key}" if place else str(key)


def _from_numpy(value: "numpy.ndarray[Any, Any] | numpy.generic", place: str) -> torch.Tensor:
    try:
        return torch.from_numpy(numpy.array(value, order="C", copy=True))
    except (TypeError, ValueError):
        raise StateUnknown(place, f"numbers of numpy's type {value.dtype}") from None


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(name)
    return dtype
