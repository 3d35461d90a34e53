"""When to kill: at any moment of a kernel's life, or somewhere among what comes of its job."""

import time
from typing import Any

from tests.faults.following import Following
from tests.faults.report import Trial
from tests.studio_process import until

#: Seconds that are waited for longer results at most; results come in batches.
_AFTER_S = 0.1


def await_moment(following: Following, trial: Trial, life_s: float, images: int) -> None:
    """Return at a random moment of a tagging job whose kernel has just been started."""
    if trial.chance.random() < 0.5:
        count, moment = 0, trial.chance.uniform(0, life_s)
    else:
        count, moment = trial.chance.randrange(1, images), trial.chance.uniform(0, _AFTER_S)
    trial.note(count=count, moment=moment)
    until(lambda: len(items(following)) >= count)
    time.sleep(moment)


def items(following: Following) -> list[dict[str, Any]]:
    """The tagged images that were told of."""
    return [item for each in following.named("job.item") for item in each.data["items"]]


def captions_told(following: Following) -> dict[str, str]:
    """By the path of their image."""
    return {item["path"]: item["caption"] for item in items(following)}
