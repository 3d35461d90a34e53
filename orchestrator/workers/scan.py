"""The task `scan`: what there is to know of image files without decoding them."""

from contract.errors import LorakeetError
from contract.rules.paths import from_wire
from orchestrator.workers.files import Source, opened
from orchestrator.workers.pictures import opened_picture, upright_size
from orchestrator.workers.tasks import Picture, ScanArguments, ScannedFile, ScanResult


def scan(arguments: ScanArguments) -> ScanResult:
    """Look at every path; a file that cannot be used has its error in its entry. Raises PathNotAbsolute."""
    root = from_wire(arguments.root)
    return ScanResult(files=[_scanned(path, root, arguments.max_pixels) for path in arguments.paths])


def _scanned(path: str, root: str, max_pixels: int) -> ScannedFile:
    found = ScannedFile(path=path)
    try:
        with opened(from_wire(path), root) as source:
            found.size_bytes, found.mtime_ns = source.size_bytes, source.mtime_ns
            found.picture = _picture(source, max_pixels)
    except LorakeetError as error:
        found.error = error.to_wire()
    return found


def _picture(source: Source, max_pixels: int) -> Picture:
    with opened_picture(source, max_pixels) as (image, found):
        width, height = upright_size(image, source, found)
        has_alpha = image.has_transparency_data
    # Last: the header has told that the file is worth it.
    return Picture(width=width, height=height, format=found, has_alpha=has_alpha, sha256=source.sha256())
