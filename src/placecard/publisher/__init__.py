"""The worker's side: :func:`published` builds a card, pins its bytes, hosts, advertises and registers them."""

from placecard.publisher.advertise import Advertise, advertised, base_url, parse_advertise, self_test
from placecard.publisher.app import Limits, MetadataApp
from placecard.publisher.build import BuildReport, build_card
from placecard.publisher.catalogue import Catalogue, HostedModel
from placecard.publisher.host import MetadataServer, serve_metadata
from placecard.publisher.origin import ModelOrigin, model_origin
from placecard.publisher.publication import Publication, PublishSettings, build_from, published
from placecard.publisher.register import registered

__all__ = [
    "Advertise",
    "BuildReport",
    "Catalogue",
    "HostedModel",
    "Limits",
    "MetadataApp",
    "MetadataServer",
    "ModelOrigin",
    "Publication",
    "PublishSettings",
    "advertised",
    "base_url",
    "build_card",
    "build_from",
    "model_origin",
    "parse_advertise",
    "published",
    "registered",
    "self_test",
    "serve_metadata",
]
