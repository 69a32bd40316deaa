"""Publishing, from a model directory to a record that front ends find: build, pin, host, advertise, test, register."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from placecard.admission import Loader
from placecard.card import Card, Serving, file_uri
from placecard.card.model import name_defects
from placecard.discovery import Record, Registry
from placecard.errors import CardDefectsError
from placecard.publisher.advertise import Advertise, advertised, base_url, self_test, url_host
from placecard.publisher.app import check_token
from placecard.publisher.build import BuildReport, build_card
from placecard.publisher.catalogue import HostedModel
from placecard.publisher.host import listening, serve_metadata
from placecard.publisher.origin import model_origin
from placecard.publisher.pinned import Pinned
from placecard.publisher.register import registered
from placecard.source import HubSource
from placecard.store import Store
from placecard.telemetry import Observe, ignore


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """What one worker publishes, and how front ends reach it.

    Args:
        model: A model directory, or ``hf://REPO[@REV]``.
        name: The name that clients ask for; that of the directory or repository if None.
        template: The operator's own chat template.
        self_host: Whether to serve the files; without it front ends need a shared mount or the hub.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        advertise: Where front ends reach it; None is allowed when ``host`` itself is reachable.
        token: Bearer token that front ends must present.
    """

    model: str
    name: str | None = None
    serving: Serving = field(default_factory=Serving)
    template: Path | None = None
    self_host: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    advertise: Advertise | None = None
    token: str | None = None


@dataclass(frozen=True)
class Publication:
    """What is published: the record as front ends see it, and what was noticed while building its card."""

    record: Record
    report: BuildReport


@asynccontextmanager
async def published(
    settings: PublishSettings,
    *,
    store: Store,
    registry: Registry,
    hub: HubSource,
    loader: Loader | None,
    observe: Observe = ignore,
) -> AsyncGenerator[Publication]:
    """Publish a model for as long as the body runs.

    The bytes that are served are copies in ``store``, taken while they were hashed for the card: whatever happens to
    the model directory later, front ends get what the card says.

    Args:
        registry: Entered already.
        loader: Opens the directory to record who reads which file; None does without.

    Raises:
        UsageError: A setting says what cannot be, or the port cannot be bound; nothing was read then.
        PlacecardError: The card cannot be built, the advertised address does not answer, or the registry cannot be
            written.
    """
    check_settings(settings)
    async with AsyncExitStack() as stack:
        listener = None
        if settings.self_host:  # before anything is read: a port that is taken is told at once
            listener = await stack.enter_async_context(listening(settings.host, settings.port))
        directory = None if settings.model.startswith("hf://") else Path(settings.model)
        lease = stack.enter_context(store.lease())
        pinned = Pinned(store, lease, directory=directory, template=settings.template)
        card, report = await _build(settings, pinned=pinned, hub=hub, loader=loader, observe=observe)
        address = None
        if listener is not None:
            hosted = HostedModel(card, pinned.blobs(card), pinned.restore)
            server = await stack.enter_async_context(
                serve_metadata([hosted], host=settings.host, listener=listener, token=settings.token, observe=observe)
            )
            address = base_url(settings.host, server.port, settings.advertise)
            card = advertised(card, address)
            await self_test(address, card, settings.token, listens_on=f"{url_host(server.host)}:{server.port}")
        record = Record(secrets.token_hex(16), card, address)
        await stack.enter_async_context(registered(registry, record, observe))
        yield Publication(record, report)


async def build_from(
    model: str,
    *,
    hub: HubSource,
    loader: Loader | None,
    name: str | None = None,
    serving: Serving | None = None,
    template: Path | None = None,
    observe: Observe = ignore,
) -> tuple[Card, BuildReport]:
    """Return the card of a directory or hub repository, with sources that stay valid after this process.

    Raises:
        PlacecardError: As :func:`~placecard.publisher.build.build_card` and
        :func:`~placecard.publisher.origin.model_origin`.
    """
    async with model_origin(model, hub) as origin:
        return await build_card(
            origin.directory,
            name=name or origin.default_name,
            origin=origin.origin,
            loader=loader,
            serving=serving,
            sources=origin.sources,
            template=template,
            template_sources=_uris(template),
            left_out=origin.left_out,
            observe=observe,
        )


def check_settings(settings: PublishSettings) -> None:
    """Raise if ``settings`` cannot lead to a publication, whatever the model is.

    Raises:
        UsageError: The port, the token or the advertised address.
        CardDefectsError: The name.
    """
    if settings.name is not None and (defects := tuple(name_defects(settings.name, None))):
        raise CardDefectsError(defects)
    if settings.self_host:
        check_token(settings.token)
        base_url(settings.host, settings.port, settings.advertise)


async def _build(
    settings: PublishSettings, *, pinned: Pinned, hub: HubSource, loader: Loader | None, observe: Observe
) -> tuple[Card, BuildReport]:
    """Build the card while pinning its bytes; a self-hosting worker does not show its own paths to others."""
    async with model_origin(settings.model, hub) as origin:
        shown = origin.sources if origin.from_hub or not settings.self_host else None
        card, report = await build_card(
            origin.directory,
            name=settings.name or origin.default_name,
            origin=origin.origin if shown else None,
            loader=loader,
            serving=settings.serving,
            sources=shown,
            template=settings.template,
            template_sources=_uris(settings.template) if shown else (),
            digester=pinned.pin if settings.self_host else None,
            left_out=origin.left_out,
            observe=observe,
        )
    return card, report


def _uris(template: Path | None) -> tuple[str, ...]:
    return () if template is None else (file_uri(os.path.abspath(template)),)  # noqa: PTH100 - no disk is touched
