"""Files of weights: adapters and checkpoints, read, written, named and described."""
