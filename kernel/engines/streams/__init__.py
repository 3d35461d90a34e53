"""Checkpoint merges as streams: one tensor after the other, or a piece of one, never a whole model."""
