"""The contract between a Lorakeet kernel and whoever drives it.

Owns the shapes of every message, the tree of errors, the versions of payloads and the pure rules that
both sides need. Knows nobody else of ours, and does no I/O.
"""

#: The contract level spoken here. Inside a level only additive change is allowed.
LEVEL = 1
#: The oldest level that is still accepted.
COMPATIBLE_LEVEL = 1
SUPPORTED_LEVELS = tuple(range(COMPATIBLE_LEVEL, LEVEL + 1))
