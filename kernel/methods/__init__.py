"""One file a method: params in, engine, outcome out. Engines are imported when a job needs them."""

from collections.abc import Mapping

from kernel.dispatch import Handler, JobHandler
from kernel.methods import control, inspect, merge, metadata, resize, tag, train

#: Control methods and queries, on the loop.
HANDLERS: Mapping[str, Handler] = {
    "control": control.order,
    "inspect": inspect.run,
    "job/get": control.get_job,
    "model/unload": control.unload,
    "probe": control.probe,
    "shutdown": control.shutdown,
}
#: Jobs, each on a thread of its own.
JOB_HANDLERS: Mapping[str, JobHandler] = {
    "merge": merge.run,
    "metadata": metadata.run,
    "resize": resize.run,
    "tag": tag.run,
    "train": train.run,
}
