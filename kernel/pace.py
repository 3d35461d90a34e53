"""How fast a phase of a job goes on, whatever the job does in between."""


class Pace:
    """Of one phase, by the time that was spent in it: from a report to the next, while it was the phase. A
    phase that comes again goes on where it stood, and begins anew where its steps do.
    """

    def __init__(self) -> None:
        self._steps, self._seconds = 0, 0.0
        self._step, self._at = 0, 0.0

    def begin(self, step: int, now: float) -> None:
        """The phase begins, or comes again, at `step`; `now` is in seconds of any clock."""
        if step < self._step:
            self._steps, self._seconds = 0, 0.0
        self._step, self._at = step, now

    def go(self, step: int, now: float) -> None:
        """The phase stands at `step`."""
        if step < self._step:
            self.begin(step, now)
        self._steps += step - self._step
        self._seconds += now - self._at
        self._step, self._at = step, now

    @property
    def rate(self) -> float | None:
        """Units a second; None where not known."""
        rate = self._exact()
        return None if rate is None else round(rate, 3)

    def eta_s(self, total: int | None) -> float | None:
        """The seconds that are left; None where not known."""
        rate = self._exact()
        return None if rate is None or total is None else round((total - self._step) / rate, 3)

    def _exact(self) -> float | None:
        return self._steps / self._seconds if self._steps > 0 and self._seconds > 0 else None
