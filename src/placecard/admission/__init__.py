"""Admission: what consumers need (:func:`needs`), whether they can open it (:class:`Loader`), and the :func:`judge`."""

from placecard.admission.code_keys import CodeFinding, Danger, code_keys
from placecard.admission.configs import Configs, is_config, parse_config, read_configs
from placecard.admission.consumers import Consumer
from placecard.admission.loader import Loader
from placecard.admission.needs import Need, Unmet, needs, unmet
from placecard.admission.report import ConsumerReport, Limits, LoadReport, versions, versions_key
from placecard.admission.verdict import State, Verdict, judge

__all__ = [
    "CodeFinding",
    "Configs",
    "Consumer",
    "ConsumerReport",
    "Danger",
    "Limits",
    "LoadReport",
    "Loader",
    "Need",
    "State",
    "Unmet",
    "Verdict",
    "code_keys",
    "is_config",
    "judge",
    "needs",
    "parse_config",
    "read_configs",
    "unmet",
    "versions",
    "versions_key",
]
