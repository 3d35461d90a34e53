"""Pure functions that host and kernel must agree on to the letter."""
