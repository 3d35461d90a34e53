"""CLIP's tokenizer, from package data and without a hub.

Byte-pair encoding as in Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision" (2021): 256 symbols of bytes, the same at the end of a word, one token a merge,
start and end of the text.
"""

import gzip
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from trainer.families.libraries import libraries

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
#: Merges of the published vocabulary, and its tokens.
MERGES: Final = 48_894
TOKENS: Final = 49_408
#: Tokens of a vocabulary without merges.
SMALLEST: Final = TOKENS - MERGES
_WORD_END: Final = "</w>"
#: Bytes that stand for themselves; the others are moved up to 256 and above (GPT-2's byte-level encoding).
_PLAIN: Final = (*range(33, 127), *range(161, 173), *range(174, 256))


class Tokenizer:
    """Texts to numbers of tokens, without start, end and padding, whose numbers are attributes."""

    def __init__(self, clip: Any, pad: str) -> None:
        """`clip` is a CLIPTokenizer of transformers; `pad` what fills short texts up."""
        self._clip = clip
        self.start: int = clip.convert_tokens_to_ids(START)
        self.end: int = clip.convert_tokens_to_ids(END)
        self.pad: int = clip.convert_tokens_to_ids(pad)

    def __len__(self) -> int:
        return len(self._clip)

    def tokens(self, text: str) -> list[int]:
        """Every token of a text, however long."""
        encoding = self._clip.backend_tokenizer.encode(text, add_special_tokens=False)
        return list(encoding.ids)


def packaged(tokens: int, pad: str) -> Tokenizer:
    """The published tokenizer, cut to its first merges where a small model has fewer tokens.

    `tokens` is how many the model has; at least `SMALLEST`.
    """
    merges = published_merges()[: tokens - SMALLEST]
    pairs = [tuple(merge.split(" ")) for merge in merges]
    clip = libraries().clip_tokenizer(vocab=vocabulary(merges), merges=pairs, pad_token=pad)
    return Tokenizer(clip, pad)


def from_folder(folder: str, pad: str) -> Tokenizer:
    """The tokenizer in a folder of diffusers. Raises OSError and ValueError where it is none."""
    clip = libraries().clip_tokenizer.from_pretrained(folder, local_files_only=True)
    # A `tokenizer.json` may have been saved with either, and would cut texts without a word.
    clip.backend_tokenizer.no_truncation()
    clip.backend_tokenizer.no_padding()
    return Tokenizer(clip, pad)


@cache
def published_merges() -> tuple[str, ...]:
    """The merges, most frequent first: two symbols with a space between them."""
    packed = resources.files("trainer.families").joinpath("data/clip_merges.txt.gz").read_bytes()
    return tuple(gzip.decompress(packed).decode().splitlines())


def vocabulary(merges: Sequence[str]) -> dict[str, int]:
    """Token → number."""
    symbols = list(_byte_symbols())
    ends = [symbol + _WORD_END for symbol in symbols]
    joined = [merge.replace(" ", "", 1) for merge in merges]
    return {token: number for number, token in enumerate((*symbols, *ends, *joined, START, END))}


def _byte_symbols() -> Iterator[str]:
    yield from map(chr, _PLAIN)
    yield from (chr(256 + number) for number in range(256 - len(_PLAIN)))
