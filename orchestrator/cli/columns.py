"""The columns of a bar that are ours; only who draws one loads them."""

from typing import Final

from rich.progress import BarColumn, Task, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

_WIDE: Final = 40


class Bar(BarColumn):
    """A bar that is only `small` columns wide beside the words of a task that has any."""

    def __init__(self, small: int) -> None:
        super().__init__()
        self._small = small

    def render(self, task: Task) -> ProgressBar:
        """The bar as it is now."""
        self.bar_width = _WIDE if task.fields["remaining"] else self._small
        return super().render(task)


class Remaining(TimeRemainingColumn):
    """The time that remains, for tasks whose words do not say it."""

    def render(self, task: Task) -> Text:
        """The time, or nothing."""
        return super().render(task) if task.fields["remaining"] else Text()
