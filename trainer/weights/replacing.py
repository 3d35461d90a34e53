"""Small files, replaced in one step: whole or as they were, whatever ends the process."""

import os

from contract.errors import LorakeetError
from trainer.weights.folders import make_folder
from trainer.weights.unfinished import Unfinished, unwritten


def replace(path: str, content: bytes) -> None:
    """Write `content` to `path`, down to the disk. Raises DiskFull and FileUnwritable."""
    try:
        make_folder(os.path.dirname(path))
    except OSError as error:
        raise unwritten(error, path) from error
    file = Unfinished(path)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file.descriptor, left) :]
        os.fsync(file.descriptor)
        file.publish(overwrite=True)
    except LorakeetError:
        raise
    except OSError as error:
        raise unwritten(error, path) from error
    finally:
        file.discard()
