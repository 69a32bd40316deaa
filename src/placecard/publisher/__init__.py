"""The worker's side: :func:`serve_metadata` hosts the files, :func:`advertised` and :func:`registered` say so."""

from placecard.publisher.advertise import Advertise, advertised, base_url, parse_advertise, self_test
from placecard.publisher.app import Limits, MetadataApp
from placecard.publisher.catalogue import Catalogue, HostedModel
from placecard.publisher.host import MetadataServer, serve_metadata
from placecard.publisher.register import registered

__all__ = [
    "Advertise",
    "Catalogue",
    "HostedModel",
    "Limits",
    "MetadataApp",
    "MetadataServer",
    "advertised",
    "base_url",
    "parse_advertise",
    "registered",
    "self_test",
    "serve_metadata",
]
