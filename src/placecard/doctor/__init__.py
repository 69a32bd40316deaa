"""The doctor: for each consumer, whether a directory serves it, and if not why and what to do (:func:`examine`)."""

from placecard.doctor.findings import Finding, Status, examine, examine_directory

__all__ = ["Finding", "Status", "examine", "examine_directory"]
