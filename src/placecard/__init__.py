"""Placecard: model metadata for a fleet of LLM engines, complete, proven, and never silently worse."""

__version__ = "0.1.0"
