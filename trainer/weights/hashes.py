"""The hashes by which programs know a file of weights, each as those who look it up compute it.

- SHA-256 of the file; AutoV2 is its first ten digits (Civitai).
- AutoV3 is the first twelve digits of the SHA-256 of what follows the header, so it survives edits of the
  metadata (Civitai). `sshs_model_hash` is all of it: kohya-ss writes it, Forge looks LoRAs up by it.
- `sshs_legacy_hash`: the first eight digits of the SHA-256 of 64 KiB at 1 MiB of the file that the format's
  library would write of these tensors with nothing but the `ss_*` metadata; of a shorter file, of what is
  there. kohya-ss writes it; the oldest model hash of web UIs took the same place of a file.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from contract.rules.tensor_header import Header, Tensor, encode_header, library_order
from trainer.weights.tensor_file import TensorFile

MODEL_HASH: Final = "sshs_model_hash"
LEGACY_HASH: Final = "sshs_legacy_hash"
#: What these hashes call training metadata.
TRAINING_PREFIX: Final = "ss_"

_LEGACY_START: Final = 0x100000
_LEGACY_BYTES: Final = 0x10000
#: Bytes read at once: fits into a core's cache.
_CHUNK: Final = 1 << 20
_DIGITS_V2, _DIGITS_V3, _DIGITS_LEGACY = 10, 12, 8


class FileHashes(NamedTuple):
    """Lower-case hex."""

    sha256: str
    model: str
    legacy: str

    @property
    def autov2(self) -> str:
        """As Civitai shows it."""
        return self.sha256[:_DIGITS_V2].upper()

    @property
    def autov3(self) -> str:
        """As Civitai shows it."""
        return self.model[:_DIGITS_V3].upper()


#: `count` bytes of the data, from its byte `start` on.
Reader = Callable[[int, int], bytes]


def file_hashes(file: TensorFile, checked: Callable[[int], None] = lambda _: None) -> FileHashes:
    """All hashes of a file, which is read once; `checked` is told the bytes of data done, and may raise.

    Raises FileUnreadable, and WeightsChanged where the file changed meanwhile.
    """
    model = hashlib.sha256()
    whole = hashlib.sha256(file.head())
    buffer = memoryview(bytearray(_CHUNK))
    for start in range(0, file.data_bytes, _CHUNK):
        part = buffer[: min(_CHUNK, file.data_bytes - start)]
        file.read(start, part)
        whole.update(part)
        model.update(part)
        checked(start + len(part))
    legacy = legacy_hash(file.header, lambda start, count: _read(file, start, count))
    file.check_unchanged()
    return FileHashes(whole.hexdigest(), model.hexdigest(), legacy)


def legacy_hash(header: Header, read: Reader) -> str:
    """`sshs_legacy_hash` of the tensors of a file, whose data `read` gives. Raises what it raises."""
    ordered = _as_library(header.tensors)
    texts = {key: text for key, text in header.metadata.items() if key.startswith(TRAINING_PREFIX)}
    start = encode_header(ordered, texts, keep_empty=True)
    digest = hashlib.sha256(start[_LEGACY_START : _LEGACY_START + _LEGACY_BYTES])
    first = max(0, _LEGACY_START - len(start))
    last = max(0, _LEGACY_START + _LEGACY_BYTES - len(start))
    for name, tensor in ordered.items():
        begin, end = tensor.data_offsets
        if begin < last and end > first:
            skipped = max(0, first - begin)
            place = header.tensors[name].data_offsets[0] + skipped
            digest.update(read(place, min(end, last) - begin - skipped))
    return digest.hexdigest()[:_DIGITS_LEGACY]


def _as_library(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors at the places that the format's library gives them."""
    ordered: dict[str, Tensor] = {}
    end = 0
    for name in sorted(tensors, key=lambda each: library_order(tensors[each].dtype, each)):
        tensor = tensors[name]
        ordered[name] = Tensor(tensor.dtype, tensor.shape, (end, end + tensor.bytes))
        end += tensor.bytes
    return ordered


def _read(file: TensorFile, start: int, count: int) -> bytes:
    part = bytearray(count)
    file.read(start, memoryview(part))
    return bytes(part)
