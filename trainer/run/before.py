"""What is wrong with a run where it would begin, or with its pictures, as far as that needs no torch.

Whoever made a mistake hears of it at once. All of it is looked at again when the run has its folder for
itself, since others may change anything meanwhile.
"""

from trainer.run.alone import check_alone
from trainer.run.frozen import check_source
from trainer.run.preflight import check_free
from trainer.run.record import check_origin, has_record, record_of
from trainer.run.request import Request


def check_before(request: Request) -> None:
    """Raises FileUnwritable where the run is going on in another process, InvalidParams where its folder has
    one with other settings, OutputExists, and what `check_source` raises."""
    if not request.plan_only:
        check_alone(request.folder)
        record = record_of(request)
        if not has_record(request.folder):
            check_origin(request)
        if not request.overwrite:
            check_free(request.output, record.files)
    check_source(request)
