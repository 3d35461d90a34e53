"""Every resource, in the order of the document."""

from orchestrator.api.routes import (
    captions,
    datasets,
    edits,
    events,
    images,
    inspections,
    job_outputs,
    jobs,
    models,
    presets,
    queue,
    root,
    session,
    settings,
    system,
    thumbnails,
)

RESOURCES = (
    root.routes,
    session.routes,
    presets.routes,
    datasets.routes,
    images.routes,
    captions.routes,
    edits.routes,
    thumbnails.routes,
    jobs.routes,
    job_outputs.routes,
    queue.routes,
    models.routes,
    inspections.routes,
    settings.routes,
    system.routes,
    events.routes,
)
