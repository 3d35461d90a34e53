"""The tables of the settings of `train`, one a file."""
