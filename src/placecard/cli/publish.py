"""``placecard publish``: a worker advertises its model and serves the metadata until it is told to stop."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Annotated, Any

import anyio

from placecard.admission import Limits, Loader
from placecard.card import Serving, content_digest, serving_digest
from placecard.cli.main import EXIT_OK
from placecard.cli.options import DiscoveryUrl, JsonFlag, Repeat, StoreOptions
from placecard.cli.output import err, print_json_line, safe, size_text
from placecard.cli.registries import registry_of
from placecard.cli.wiring import open_store, read_token
from placecard.config import environment
from placecard.errors import Code, UsageError
from placecard.publisher import Publication, PublishSettings, parse_advertise, published
from placecard.resolver import degraded_json
from placecard.source import HubSource
from placecard.telemetry import Counters, Fact, StageEnded, StageStarted, log, tee


def publish(
    *,
    model_dir: Path | None = None,
    model: str | None = None,
    name: str | None = None,
    alias: Annotated[tuple[str, ...], Repeat] = (),
    context_length: int | None = None,
    kv_block_size: int | None = None,
    worker_type: str | None = None,
    tool_parser: str | None = None,
    reasoning_parser: str | None = None,
    chat_template: Path | None = None,
    self_host: bool = True,
    host: str = "127.0.0.1",
    port: int = 0,
    advertise: str | None = None,
    token_file: Path | None = None,
    discovery: DiscoveryUrl = None,
    store: StoreOptions | None = None,
    load_test: bool = True,
    load_timeout: float = 60.0,
    json: JsonFlag = False,
) -> int:
    """Advertise a model and serve its metadata until SIGTERM.

    The files are copied when the card is built, and the copies are served: later edits of the directory reach nobody.

    Parameters
    ----------
    model_dir
        The model directory.
    model
        A hub repository instead: hf://REPO[@REV]; pinned to its commit.
    name
        The name that clients ask for; by default that of the directory or repository.
    alias
        A further name; repeatable.
    context_length
        Tokens a request may hold; by default what the configuration says.
    kv_block_size
        Tokens of one KV cache block of the engine.
    worker_type
        aggregated, prefill, decode or encode.
    tool_parser
        The engine's parser of tool calls.
    reasoning_parser
        The engine's parser of reasoning.
    chat_template
        The operator's own template in place of the model's.
    self_host
        Serve the files; without it, front ends need a shared mount or the hub.
    host
        Address to listen on.
    port
        Port to listen on; 0 takes a free one.
    advertise
        HOST:PORT at which front ends reach this worker; needed when listening on all addresses.
    token_file
        A file with the bearer token that front ends must present.
    discovery
        Registry URL: file:///dir, dynamo+file:///dir. By default the folder of this user.
    load_test
        Open the directory to record which consumer reads which file.
    load_timeout
        Seconds the load test may take.
    json
        Print one JSON object for each change of state.
    """
    if (model_dir is None) == (model is None):
        raise UsageError(Code.USAGE, "give either --model-dir DIR or --model hf://REPO[@REV]")
    if model is not None and not model.startswith("hf://"):
        raise UsageError(Code.USAGE, f"--model {model} is not hf://REPO[@REV]; a directory is --model-dir")
    settings = PublishSettings(
        model=model or str(model_dir),
        name=name,
        serving=Serving(
            aliases=alias, context_length=context_length, kv_block_size=kv_block_size, worker_type=worker_type,
            tool_parser=tool_parser, reasoning_parser=reasoning_parser,
        ),
        template=chat_template,
        self_host=self_host,
        host=host,
        port=port,
        advertise=parse_advertise(advertise) if advertise else None,
        token=read_token(token_file),
    )  # fmt: skip
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("placecard").setLevel(logging.INFO)
    say = _Say(json)
    url = discovery or environment().discovery
    anyio.run(_serve, settings, store, url, Limits(seconds=load_timeout) if load_test else None, say)
    return EXIT_OK


class _Say:
    """Tells the states of a publication, as JSON lines or for people."""

    def __init__(self, json: bool) -> None:
        self._json = json
        self.counters = Counters()
        self.observe = tee(self.counters, log, self._stage)

    def state(self, state: str, **more: Any) -> None:
        """Tell that the publication is in ``state``."""
        if self._json:
            print_json_line({"state": state, **more})

    def published(self, publication: Publication, url: str) -> None:
        """Tell what is published, where, and what front ends will miss."""
        record, report = publication.record, publication.report
        card = record.card
        total = sum(file.size or 0 for file in card.files)
        if self._json:
            self.state(
                "published",
                model=card.name, slug=card.slug, instance=record.instance, address=record.address, discovery=url,
                content_digest=content_digest(card), serving_digest=serving_digest(card),
                files=len(card.files), bytes=total, front_ends_will_say=report.state.value,
                degraded=[degraded_json(fact) for fact in report.degraded],
                errors=[error.as_json() for error in report.errors],
                left_out=[{"name": each.name, "reason": each.reason} for each in card.left_out],
            )  # fmt: skip
            return
        where = record.address or "no address (not self-hosting)"
        err().print("[green]published[/] ", safe(card.name), f"  {len(card.files)} files, {size_text(total)}", sep="")
        err().print("  [dim]address[/]    ", safe(where), sep="")
        err().print("  [dim]discovery[/]  ", safe(url), sep="")
        err().print("  [dim]content[/]    ", content_digest(card), sep="")
        worse = [(e.code, str(e), e.mend) for e in report.errors] + [
            (f.code, f.detail, f.mend) for f in report.degraded
        ]
        for code, text, mend in worse:
            err().print(f"  [yellow]{code.value}[/]  ", safe(text), sep="")
            err().print("    [dim]mend[/]  ", safe(mend), sep="")
        err().print("  [dim]resolve it with[/]  placecard resolve ", safe(card.name), sep="")

    def _stage(self, fact: Fact) -> None:
        match fact:
            case StageStarted(stage=stage):
                self.state("building", stage=stage)
            case StageEnded(stage=stage, seconds=seconds) if not self._json:
                err().print(f"  [dim]{stage:<10} {seconds:6.2f} s[/]")
            case _:
                pass


async def _serve(
    settings: PublishSettings, options: StoreOptions | None, url: str, limits: Limits | None, say: _Say
) -> None:
    env = environment()
    store = open_store(options, say.observe)
    hub = HubSource(offline=env.hub_offline, cache_dir=env.hub_cache, observe=say.observe)
    async with registry_of(url, say.observe) as registry, Loader(limits) as loader, anyio.create_task_group() as tasks:
        stopped = anyio.Event()
        tasks.start_soon(_stop_on_signal, stopped)
        used = loader if limits is not None else None
        async with published(
            settings, store=store, registry=registry, hub=hub, loader=used, observe=say.observe
        ) as publication:
            say.published(publication, url)
            await stopped.wait()
        say.state("stopped", model=publication.record.card.name, counts=say.counters.as_json())
        tasks.cancel_scope.cancel()


async def _stop_on_signal(stopped: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stopped.set()
            return
