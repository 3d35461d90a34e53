"""Processes of their own for work that must not run in the orchestrator: decoders meet hostile files, hashing
takes a core. `pool` is the host's side; everything that decodes is imported only by `python -m`."""
