"""``placecard publish``: a worker advertises its model and serves the metadata until it is told to stop."""

from __future__ import annotations

import logging
import os
import shlex
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import anyio
import anyio.abc

from placecard.admission import Limits, Loader
from placecard.card import Serving, content_digest, serving_digest
from placecard.cli.main import EXIT_INTERRUPTED, EXIT_OK
from placecard.cli.options import DiscoveryUrl, JsonFlag, Repeat, StoreOptions
from placecard.cli.output import err, print_json_line, safe, size_text
from placecard.cli.registries import registry_of
from placecard.cli.wiring import open_store, read_token
from placecard.config import environment
from placecard.errors import Code, UsageError
from placecard.publisher import Publication, PublishSettings, parse_advertise, published
from placecard.resolver import State, degraded_json
from placecard.source import HubSource
from placecard.telemetry import Counters, Fact, StageEnded, StageStarted, log, tee

WorkerType = Literal["aggregated", "prefill", "decode", "encode"]
_COLOURS: Final = {State.READY: "green", State.DEGRADED: "yellow", State.REFUSED: "red"}


def publish(
    *,
    model_dir: Path | None = None,
    model: str | None = None,
    name: str | None = None,
    alias: Annotated[tuple[str, ...], Repeat] = (),
    context_length: int | None = None,
    kv_block_size: int | None = None,
    worker_type: WorkerType | None = None,
    tool_parser: str | None = None,
    reasoning_parser: str | None = None,
    chat_template: Path | None = None,
    self_host: bool = True,
    host: str = "127.0.0.1",
    port: int | None = None,
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
        What the worker does of a request.
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
        Port to listen on; 0 takes a free one. By default the port that --advertise names, else a free one.
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
    reached = parse_advertise(advertise) if advertise else None
    listen = port if port is not None else (reached.port if reached is not None else None) or 0
    if not 0 <= listen < 65536:
        raise UsageError(Code.USAGE, f"--port {listen} is outside 0 to 65535")
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
        port=listen,
        advertise=reached,
        token=read_token(token_file),
    )  # fmt: skip
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("placecard").setLevel(logging.INFO)
    url = discovery or environment().discovery
    hint = _resolve_flags(url, model_dir, token_file, self_host=self_host)
    work = _Work(settings, store, url, Limits(seconds=load_timeout) if load_test else None)
    return anyio.run(_serve, work, _Say(json, hint))


def _resolve_flags(url: str, model_dir: Path | None, token_file: Path | None, *, self_host: bool) -> list[str]:
    """Return the flags that a front end on this host needs to resolve what is published."""
    flags = [] if url == environment().discovery else ["--discovery", url]
    if token_file is not None and self_host:
        flags += ["--worker-token-file", os.path.abspath(token_file)]  # noqa: PTH100 - no disk is touched
    if model_dir is not None and not self_host:
        flags += ["--file-root", os.path.abspath(model_dir)]  # noqa: PTH100
    return flags


@dataclass(frozen=True)
class _Work:
    """What to publish, and with what."""

    settings: PublishSettings
    store: StoreOptions | None
    url: str
    limits: Limits | None


class _Say:
    """Tells the states of a publication, as JSON lines or for people."""

    def __init__(self, json: bool, resolve_flags: list[str]) -> None:
        self._json = json
        self._resolve_flags = resolve_flags
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
        files = f"{len(card.files)} files, {size_text(total)}"
        err().print(_headline(report.state), safe(card.name), f"  {files}", sep="")
        err().print("  [dim]address[/]    ", safe(where), sep="")
        err().print("  [dim]discovery[/]  ", safe(url), sep="")
        err().print("  [dim]content[/]    ", content_digest(card), sep="")
        worse = [("red", e.code, str(e), e.mend) for e in report.errors]
        worse += [("yellow", f.code, f.detail, f.mend) for f in report.degraded]
        for colour, code, text, mend in worse:
            err().print(f"  [{colour}]{code.value}[/]  ", safe(text), sep="")
            err().print("    [dim]mend[/]  ", safe(mend), sep="")
        command = shlex.join(["placecard", "resolve", card.name, *self._resolve_flags])
        err().print("  [dim]resolve it with[/]  ", safe(command), sep="")
        doing = "serving" if record.address else "advertising"
        err().print(f"  [dim]{doing}; Ctrl-C to stop[/]")

    def stopped(self, settings: PublishSettings, publication: Publication | None) -> None:
        """Tell that nothing is published any more, or never was."""
        name = publication.record.card.name if publication is not None else settings.name
        counts = self.counters.as_json()
        self.state("stopped", model=name, published=publication is not None, counts=counts)
        if not self._json:
            err().print("  withdrawn" if publication is not None else "  stopped before it was published")

    def _stage(self, fact: Fact) -> None:
        match fact:
            case StageStarted(stage=stage):
                self.state("building", stage=stage)
            case StageEnded(stage=stage, seconds=seconds) if not self._json:
                err().print(f"  [dim]{stage:<10} {seconds:6.2f} s[/]")
            case _:
                pass


def _headline(state: State) -> str:
    said = "published" if state is State.READY else f"published, front ends will say {state.value}"
    return f"[{_COLOURS[state]}]{said}[/]  "


async def _serve(work: _Work, say: _Say) -> int:
    """Publish until a signal; one that comes earlier ends the building, too. Return the exit code."""
    stop = _Stop()
    publication: Publication | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(stop.wait)
        with stop.scope:
            async with _opened(work, say) as publication:
                say.published(publication, work.url)
                await anyio.sleep_forever()
        tasks.cancel_scope.cancel()
    say.stopped(work.settings, publication)
    return EXIT_INTERRUPTED if publication is None and stop.signal == signal.SIGINT else EXIT_OK


@asynccontextmanager
async def _opened(work: _Work, say: _Say) -> AsyncGenerator[Publication]:
    env = environment()
    store = open_store(work.store, say.observe)
    hub = HubSource(offline=env.hub_offline, cache_dir=env.hub_cache, observe=say.observe)
    async with registry_of(work.url, say.observe) as registry, Loader(work.limits) as loader:
        used = loader if work.limits is not None else None
        async with published(
            work.settings, store=store, registry=registry, hub=hub, loader=used, observe=say.observe
        ) as publication:
            yield publication


class _Stop:
    """Cancels ``scope`` at the first signal to end. A second one changes nothing, a third one ends the process."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.signal: signal.Signals | None = None

    async def wait(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Wait for the signal; ready once it would be seen."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            self.signal = await anext(signals)
            self.scope.cancel()
            await anext(signals)
