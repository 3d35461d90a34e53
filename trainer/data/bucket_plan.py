"""The plan of a run's buckets: which picture is trained at which size, how many batches that makes, and how
much of the pictures is cut off. It can be shown before anything is loaded.
"""

from collections import defaultdict
from collections.abc import Sequence

from contract.methods.training.data import TrainData
from contract.methods.training.plan import PlanBucket, TrainPlan
from contract.rules.buckets import BucketRules, Placed, Size
from contract.validation import Problem, invalid
from trainer.data.collection import Picture


def rules_of(data: TrainData, side: int) -> BucketRules:
    """The rules for buckets in the settings; `side` is the family's resolution, for where they have none.

    Raises InvalidParams where the settings have no bucket for that.
    """
    side = side if data.resolution is None else data.resolution
    own = data.buckets
    try:
        return BucketRules(
            resolution=Size(side, side),
            min_side=own.min_side,
            max_side=own.max_side,
            step=own.step,
            upscale=own.upscale,
            enabled=own.enabled,
        )
    except ValueError as error:
        problem = Problem("$.params.settings.data.buckets", f"{error}; the resolution is {side}")
        raise invalid([problem]) from None


class BucketPlan:
    """Where the pictures of a run go, `placed` in their order; `buckets` has the numbers of the pictures of
    each size, both ordered.
    """

    def __init__(self, pictures: Sequence[Picture], rules: BucketRules, batch_size: int) -> None:
        self.pictures = list(pictures)
        self.batch_size = batch_size
        known: dict[Size, Placed] = {}
        self.placed: list[Placed] = []
        buckets: dict[Size, list[int]] = defaultdict(list)
        for number, picture in enumerate(self.pictures):
            place = known.get(picture.size) or known.setdefault(picture.size, rules.place(*picture.size))
            self.placed.append(place)
            buckets[place.bucket].append(number)
        self.buckets: dict[Size, list[int]] = dict(sorted(buckets.items()))

    def shown(self, accumulation: int = 1, total_steps: int = 0) -> TrainPlan:
        """The plan for people and programs. A step takes `accumulation` batches, the last of an epoch what
        is left; the run has `total_steps`.
        """
        rows = [self._row(size, numbers) for size, numbers in self.buckets.items()]
        samples = sum(row.samples for row in rows)
        batches = sum(row.batches for row in rows)
        return TrainPlan(
            buckets=rows,
            pictures=len(self.pictures),
            samples=samples,
            batches=batches,
            steps=-(-batches // accumulation),
            total_steps=total_steps,
            cropped=sum(row.cropped * row.samples for row in rows) / max(1, samples),
            aspect_error=sum(self._errors()) / max(1, len(self.pictures)),
            enlarged=sum(
                placed.resized.width > picture.size.width
                for picture, placed in zip(self.pictures, self.placed, strict=True)
            ),
        )

    def _row(self, size: Size, numbers: Sequence[int]) -> PlanBucket:
        repeats = [self.pictures[number].repeats for number in numbers]
        samples = sum(repeats)
        cut = sum(self.placed[number].cropped * times for number, times in zip(numbers, repeats, strict=True))
        batches = -(-samples // self.batch_size)
        return PlanBucket(
            width=size.width,
            height=size.height,
            pictures=len(numbers),
            samples=samples,
            batches=batches,
            cropped=cut / max(1, samples),
        )

    def _errors(self) -> list[float]:
        pairs = zip(self.pictures, self.placed, strict=True)
        return [abs(placed.bucket.aspect - picture.size.aspect) for picture, placed in pairs]
