"""The thin half: drives kernels, keeps what must not be lost, and talks to people. Knows only `contract`."""

__version__ = "0.1.0"
