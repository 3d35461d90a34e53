"""Checkpoints of a training run: atomic folders from which it goes on as if it had never stopped."""
