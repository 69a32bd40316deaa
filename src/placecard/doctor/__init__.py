"""The doctor: for each consumer, whether a directory serves it, and if not why and what to do (:func:`examine`)."""

from placecard.doctor.findings import Diagnosis, Finding, Status, examine, examine_directory
from placecard.doctor.generation import manifest_of

__all__ = ["Diagnosis", "Finding", "Status", "examine", "examine_directory", "manifest_of"]
