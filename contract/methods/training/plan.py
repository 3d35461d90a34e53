"""How the pictures of a training go through it: which are trained at which size, and what that cuts off."""

from contract.base import Reply


class PlanBucket(Reply, kw_only=True):
    """One bucket; `width` and `height` in pixels. `samples` counts repeats, `batches` are those of an epoch,
    and `cropped` is the mean share of the pictures that is cut off, 0 to 1, weighted by repeats."""

    width: int
    height: int
    pictures: int
    samples: int
    batches: int
    cropped: float


class TrainPlan(Reply, kw_only=True):
    """All buckets, and what they come to. `samples`, `batches` and `steps` (of the optimizer) are those of an
    epoch, `total_steps` those of the run. `aspect_error` is the mean difference of width per height between
    picture and bucket, and `enlarged` counts the pictures that are scaled up.
    """

    buckets: list[PlanBucket]
    pictures: int
    samples: int
    batches: int
    steps: int
    total_steps: int
    cropped: float
    aspect_error: float
    enlarged: int
