"""`python -m orchestrator.cli`: the same as `lorakeet`."""

from orchestrator.cli import main

main()
