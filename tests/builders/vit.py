"""A tagger of the true size and architecture of SmilingWolf/wd-vit-tagger-v3, with random weights.

For benchmarks, where only the time of a forward pass counts. That model is timm's ViT-B/16 at 448 px without
a class token: 784 patches, 12 pre-norm blocks, the mean over the patches, one linear layer for 10,861 tags.
Small parameters make a small file with the same operators, for tests.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.builders.graph import Graph, save_tags

RATINGS = ("general", "sensitive", "questionable", "explicit")
_EPSILON = 1e-6  # timm's, of every LayerNorm in a ViT
_WEIGHT_STD = 0.02  # timm's initialisation
# Random scores with about as many above 0.35 as the real model gives to a picture: 20 of 10,861.
_HEAD_STD, _HEAD_BIAS = 1.7, -5.5


def build_vit_tagger(
    folder: Path,
    *,
    size: int = 448,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    patch: int = 16,
    tags: int = 10861,
    seed: int = 0,
) -> None:
    """Write `model.onnx` (380 MB by default) and `selected_tags.csv` into `folder`.

    `input` float32 [batch, size, size, 3], BGR 0..255 → `output` float32 [batch, tags], 0..1. The weights
    depend on `seed` alone. `width` is a multiple of `heads`, `size` of `patch`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vit = _Vit(width, heads, seed)
    x = vit.patches(size, patch)
    for _ in range(depth):
        x = vit.block(x)
    doc = "A random ViT in the shape of wd-vit-tagger-v3. tests/builders/vit.py wrote it."
    vit.graph.save(folder / "model.onnx", scores=vit.head(x, tags), size=size, tags=tags, doc=doc)
    save_tags(folder / "selected_tags.csv", _names(tags))


def _names(tags: int) -> list[tuple[str, int]]:
    """Four ratings, then general tags; the last quarter, as in the v3 models, are characters."""
    first_character = tags - tags // 4
    made_up = [(f"tag_{i:05}", 4 if i >= first_character else 0) for i in range(len(RATINGS), tags)]
    return [(name, 9) for name in RATINGS] + made_up


class _Vit:
    """Shapes: B batch, T patches, C width, H heads, D width of a head."""

    def __init__(self, width: int, heads: int, seed: int) -> None:
        self.graph = Graph()
        self._width = width
        self._heads = heads
        self._random = np.random.default_rng(seed)

    def patches(self, size: int, patch: int) -> str:
        """[B, T, C] from `input`; its channels stay B, G, R: with random weights there is no difference."""
        g, count = self.graph, (size // patch) ** 2
        scaled = g("Sub", g("Div", "input", g.const(127.5)), g.const(1.0))
        planes = g("Transpose", scaled, perm=[0, 3, 1, 2])
        kernel = self._weight(self._width, 3, patch, patch)
        grid = g("Conv", planes, kernel, self._zeros(self._width), strides=[patch, patch])
        rows = g("Transpose", self._reshape(grid, 0, self._width, count), perm=[0, 2, 1])
        return g("Add", rows, self._weight(1, count, self._width))

    def block(self, x: str) -> str:
        """One pre-norm block: x + attention(norm(x)), then x + mlp(norm(x))."""
        x = self.graph("Add", x, self._attention(self._norm(x)))
        return self.graph("Add", x, self._mlp(self._norm(x)))

    def head(self, x: str, tags: int) -> str:
        """[B, tags]: the mean over the normalised patches, as scores."""
        g = self.graph
        pooled = g("ReduceMean", self._norm(x), axes=[1], keepdims=0)
        # The mean of many patches is small; without a second norm the scores would all be alike.
        features = g("Mul", pooled, g("Reciprocal", self._length(pooled)))
        weight, bias = self._weight(self._width, tags, std=_HEAD_STD), g.const(np.full(tags, _HEAD_BIAS))
        return g("Sigmoid", g("Add", g("MatMul", features, weight), bias))

    def _attention(self, x: str) -> str:
        g, width, heads = self.graph, self._width, self._heads
        depth = width // heads
        qkv = self._reshape(self._linear(x, width, 3 * width), 0, -1, 3, heads, depth)
        split = g("Transpose", qkv, perm=[2, 0, 3, 1, 4])  # [3, B, H, T, D]
        q, k, v = (g("Gather", split, g.const(index, np.int64), axis=0) for index in range(3))
        logits = g("MatMul", g("Mul", q, g.const(depth**-0.5)), g("Transpose", k, perm=[0, 1, 3, 2]))
        mixed = g("Transpose", g("MatMul", g("Softmax", logits, axis=-1), v), perm=[0, 2, 1, 3])
        return self._linear(self._reshape(mixed, 0, -1, width), width, width)

    def _mlp(self, x: str) -> str:
        return self._linear(
            self._gelu(self._linear(x, self._width, 4 * self._width)), 4 * self._width, self._width
        )

    def _gelu(self, x: str) -> str:
        """x / 2 * (1 + erf(x / sqrt 2)), in the operators that onnxruntime fuses into one."""
        g = self.graph
        erf = g("Erf", g("Div", x, g.const(2**0.5)))
        return g("Mul", g("Mul", x, g("Add", erf, g.const(1.0))), g.const(0.5))

    def _norm(self, x: str) -> str:
        g, width = self.graph, self._width
        return g(
            "LayerNormalization", x, g.const(np.ones(width)), self._zeros(width), axis=-1, epsilon=_EPSILON
        )

    def _length(self, x: str) -> str:
        return self.graph("ReduceL2", x, axes=[1], keepdims=1)

    def _linear(self, x: str, inputs: int, outputs: int) -> str:
        g = self.graph
        return g("Add", g("MatMul", x, self._weight(inputs, outputs)), self._zeros(outputs))

    def _reshape(self, x: str, *shape: int) -> str:
        return self.graph("Reshape", x, self.graph.const(shape, np.int64))

    def _weight(self, *shape: int, std: float = _WEIGHT_STD) -> str:
        values: NDArray[np.float32] = self._random.standard_normal(shape, np.float32) * np.float32(std)
        return self.graph.const(values)

    def _zeros(self, length: int) -> str:
        return self.graph.const(np.zeros(length))
