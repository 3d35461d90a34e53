"""What it is, in the keys of ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec), as sd-scripts fills them
(`sai_model_spec.py`)."""

from datetime import UTC, datetime
from typing import Final

from contract.methods.training.objective import TIMESTEPS
from trainer.output.facts import Moment, TrainingFacts
from trainer.weights.metadata import ARCHITECTURES

#: Whose names the modules have in kohya's files of a family; those of others are those of diffusers.
_IMPLEMENTATIONS: Final = {"sdxl": "https://github.com/Stability-AI/generative-models"}
_DIFFUSERS: Final = "diffusers"


def of_spec(facts: TrainingFacts, moment: Moment) -> dict[str, str]:
    """The keys, each beginning with `modelspec.`; what nobody has said is left out."""
    said = {**_of_model(facts), **_of_people(facts), "date": _date(moment.at)}
    return {f"modelspec.{key}": text for key, text in said.items() if text}


def _of_model(facts: TrainingFacts) -> dict[str, str]:
    settings = facts.settings
    objective, skip = settings.objective, settings.model.clip_skip
    is_kohya = settings.saving.naming == "kohya"
    is_all = (objective.min_timestep, objective.max_timestep) == (0, TIMESTEPS)
    return {
        "sai_model_spec": "1.0.1",
        "architecture": f"{ARCHITECTURES[facts.family].spec}/lora",
        "implementation": _IMPLEMENTATIONS.get(facts.family, _DIFFUSERS) if is_kohya else _DIFFUSERS,
        "implementation_version": f"lorakeet/{facts.versions.get('lorakeet', 'unknown')}",
        "resolution": f"{facts.size}x{facts.size}",
        "prediction_type": facts.prediction,
        "timestep_range": "" if is_all else f"{objective.min_timestep},{objective.max_timestep}",
        "encoder_layer": "" if skip is None else str(skip),
    }


def _of_people(facts: TrainingFacts) -> dict[str, str]:
    said = facts.settings.metadata
    return {
        "title": said.title or facts.name,
        "author": said.author or "",
        "description": said.description or "",
        "license": said.license or "",
        "usage_hint": said.usage_hint or "",
        "trigger_phrase": said.trigger_phrase or "",
        "tags": ", ".join(said.tags),
    }


def _date(at: float) -> str:
    """ISO 8601, to the second."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
