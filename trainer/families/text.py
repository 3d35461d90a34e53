"""Captions longer than CLIP reads at once: cut into chunks, encoded alone, put together again.

Facts: the reference trainer (sd-scripts), so that what is trained here is read there. Each chunk has a start
and an end of its own; of the encoded chunks, the first start, all that is between starts and ends, and the
last end are kept.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from trainer.families.base import MaxTokens
from trainer.families.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Tokens of a chunk between its start and its end.
CHUNK: Final = 75


def chunked(tokens: Sequence[int], tokenizer: Tokenizer, max_tokens: MaxTokens) -> list[list[int]]:
    """A text as rows of 77 tokens, as many as `max_tokens` asks for; what is longer is cut off."""
    start, end, pad = tokenizer.start, tokenizer.end, tokenizer.pad
    text = [*tokens[:max_tokens], end]
    text += [pad] * (max_tokens + 1 - len(text))
    rows = [[start, *text[at : at + CHUNK], text[-1]] for at in range(0, max_tokens, CHUNK)]
    return rows if len(rows) == 1 else [_ended(row, end, pad) for row in rows]


def token_ids(captions: Sequence[str], tokenizer: Tokenizer, max_tokens: MaxTokens) -> "torch.Tensor":
    """The rows of all captions, one under the other: (b × chunks, 77), int64."""
    import torch

    rows = (chunked(tokenizer.tokens(caption), tokenizer, max_tokens) for caption in captions)
    return torch.tensor([row for chunks in rows for row in chunks], dtype=torch.int64)


def joined(hidden: "torch.Tensor", max_tokens: MaxTokens) -> "torch.Tensor":
    """Encoded rows (b × chunks, 77, d) as captions (b, max_tokens + 2, d)."""
    if max_tokens == CHUNK:
        return hidden
    import torch

    chunks = max_tokens // CHUNK
    rows, _, width = hidden.shape
    inner = hidden[:, 1:-1].reshape(rows // chunks, -1, width)
    return torch.cat([hidden[::chunks, :1], inner, hidden[chunks - 1 :: chunks, -1:]], dim=1)


def layer(encoder: "nn.Module", output: Any, clip_skip: int, *, normed: bool) -> "torch.Tensor":
    """What a layer of an encoder gave, counted from the end, 1 the last; through the final norm or not."""
    hidden: torch.Tensor = output.hidden_states[-clip_skip]
    return core(encoder).final_layer_norm(hidden) if normed else hidden


def core(encoder: "nn.Module") -> Any:
    """The text model proper: CLIPTextModel is it itself (since transformers 5.6), the one with a projection
    has it inside."""
    return getattr(encoder, "text_model", encoder)


def _ended(row: list[int], end: int, pad: int) -> list[int]:
    """An end behind a chunk that is full, and at the beginning of one that is empty."""
    last = end if row[-2] not in (end, pad) else row[-1]
    first = end if row[1] == pad else row[1]
    return [row[0], first, *row[2:-1], last]
