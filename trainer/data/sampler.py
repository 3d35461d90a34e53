"""The order of a run: which pictures make the batch at each position.

Nothing is carried from batch to batch. The batch at a position follows from the seed, the epoch and the
position, so a run that goes on anywhere, also inside an accumulation window, sees what it would have seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from contract.rules.buckets import Size
from trainer.data.draws import draws


class Item(NamedTuple):
    """A picture, by its number in the plan, in its `repeat`-th turn of an epoch, counted from 0."""

    picture: int
    repeat: int


class Batch(NamedTuple):
    """Pictures of one bucket. `position` counts the batches of `epoch`; both count from 0."""

    epoch: int
    position: int
    bucket: Size
    items: tuple[Item, ...]


class Window(NamedTuple):
    """The batches of one optimizer step: their positions in the epoch begin at `first`, and the last of an
    epoch may have fewer of them. `step` counts the steps of the run from 0.
    """

    step: int
    first: int
    size: int


class Sampler:
    """The batches of every epoch. Each picture comes as often as it is repeated; a batch has one size, and
    the last one of a bucket may be smaller. For one thread.
    """

    def __init__(
        self,
        buckets: Mapping[Size, Sequence[int]],
        repeats: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        accumulation: int = 1,
        shuffle: bool = True,
    ) -> None:
        """`buckets` has the numbers of the pictures of each size, `repeats` how often each comes.

        Raises ValueError where that makes no batch.
        """
        self._samples = {
            size: [Item(number, turn) for number in numbers for turn in range(repeats[number])]
            for size, numbers in sorted(buckets.items())
        }
        self._batch_size = batch_size
        self._seed = seed
        self._accumulation = accumulation
        self._shuffle = shuffle
        self._epoch = -1
        self._batches: list[Batch] = []
        self.batches_per_epoch = sum(-(-len(items) // batch_size) for items in self._samples.values())
        if not self.batches_per_epoch:
            raise ValueError("there is nothing to train on")

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps: an accumulation window ends with its epoch."""
        return -(-self.batches_per_epoch // self._accumulation)

    def batches(self, epoch: int) -> list[Batch]:
        """All batches of `epoch`, in order; the list is not to be changed."""
        if epoch != self._epoch:
            self._batches = self._made(epoch)
            self._epoch = epoch
        return self._batches

    def at(self, number: int) -> Batch:
        """The batch of this number, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        return self.batches(epoch)[position]

    def since(self, number: int) -> Iterator[Batch]:
        """The batches from this number on, without end."""
        while True:
            yield self.at(number)
            number += 1

    def window(self, number: int) -> Window:
        """The accumulation window that the batch of this number is in."""
        epoch, position = divmod(number, self.batches_per_epoch)
        first = position - position % self._accumulation
        size = min(self._accumulation, self.batches_per_epoch - first)
        return Window(epoch * self.steps_per_epoch + first // self._accumulation, first, size)

    def first_of_step(self, step: int) -> int:
        """The number of the first batch of an optimizer step, both counted from 0 over all epochs."""
        epoch, window = divmod(step, self.steps_per_epoch)
        return epoch * self.batches_per_epoch + window * self._accumulation

    def _made(self, epoch: int) -> list[Batch]:
        cut = [batch for size in self._samples for batch in self._cut(size, epoch)]
        if self._shuffle:
            draws(self._seed, "batches", epoch).shuffle(cut)
        return [Batch(epoch, position, size, items) for position, (size, items) in enumerate(cut)]

    def _cut(self, size: Size, epoch: int) -> Iterator[tuple[Size, tuple[Item, ...]]]:
        items = list(self._samples[size])
        if self._shuffle:
            draws(self._seed, "bucket", epoch, *size).shuffle(items)
        for start in range(0, len(items), self._batch_size):
            yield size, tuple(items[start : start + self._batch_size])
