"""Learning rates over a run: pure functions of the step."""

from trainer.schedules.rate import factor, rate, set_rates

__all__ = ["factor", "rate", "set_rates"]
