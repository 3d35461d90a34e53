"""Samples: the pictures that show how far a training is."""
