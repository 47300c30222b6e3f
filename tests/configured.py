"""A model's ``Config`` by the bare names of its settings, wherever they are nested."""

from __future__ import annotations

from typing import Any

from skinkit.models import Model, model_config, present_settings


def configured(model: type[Model], **settings: Any) -> Any:
    """``configured(Concat, side_px=32, epochs=1)``: ``epochs`` is found under ``recipe``."""
    return model_config(model, present_settings(model, settings))
