"""Card in, directory out: :class:`Resolver` runs plan ▸ fetch ▸ harvest ▸ snapshot ▸ load test and returns a
:class:`Resolution`."""

from placecard.admission import State
from placecard.resolver.admit import Admission, Admit, Admitter
from placecard.resolver.harvest import skip_reason
from placecard.resolver.outcome import Resolution, degraded_json
from placecard.resolver.peers import Peers
from placecard.resolver.plan import Candidate, HubPin, Places, Plan, Want, candidates, harvest_directories, plan
from placecard.resolver.resolver import Resolver, Sources
from placecard.resolver.settings import Budget, Overlay, ResolveSettings

__all__ = [
    "Admission",
    "Admit",
    "Admitter",
    "Budget",
    "Candidate",
    "HubPin",
    "Overlay",
    "Peers",
    "Places",
    "Plan",
    "Resolution",
    "ResolveSettings",
    "Resolver",
    "Sources",
    "State",
    "Want",
    "candidates",
    "degraded_json",
    "harvest_directories",
    "plan",
    "skip_reason",
]
