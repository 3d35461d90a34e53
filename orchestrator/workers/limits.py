"""What a worker may take."""

import msgspec


class WorkerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of each worker of a pool."""

    memory_bytes: int = 2 << 30
    """Bytes beyond what a worker has when it starts; held on Linux."""
    task_s: float = 20.0
    """Seconds for a task, from when a worker has it, unless the caller says otherwise."""
    start_s: float = 30.0
    """Seconds until a new worker answers: a cold disk and a virus scanner."""
    idle_s: float = 30.0
    """Seconds without work after which a worker ends."""
    tasks: int = 1000
    """Tasks after which a worker is replaced: decoders leak."""
