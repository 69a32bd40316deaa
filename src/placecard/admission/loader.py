"""The loader: opens a directory offline, in a limited process, as its consumers will.

A *nursery* process imports the heavy parts once, and forks one child for each load test. They speak JSON lines.
Whatever a directory does to its child — panic, hang, eat memory — comes back as a report; the nursery and the other
models do not notice.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from placecard.admission.consumers import Consumer
from placecard.admission.report import ConsumerReport, Limits, LoadReport, versions
from placecard.admission.surroundings import ENVIRONMENT, own_search_path
from placecard.errors import AdmissionError, Code
from placecard.store.scratch import scratch

_MAX_LINE_BYTES: Final = 1 << 20
_GRACE_S: Final = 5.0
_START_S: Final = 120.0
_BOOT: Final = (
    "import json, sys; sys.dont_write_bytecode = True; sys.path[:] = json.loads(sys.argv[1]); "
    "from placecard.admission.child.nursery import main; main()"
)
_CRASHES: Final = {
    -signal.SIGABRT: "aborted",
    -signal.SIGSEGV: "crashed (segmentation fault)",
    -signal.SIGBUS: "crashed (bus error)",
    -signal.SIGILL: "crashed (illegal instruction)",
    -signal.SIGFPE: "crashed (arithmetic)",
}


class _Done(msgspec.Struct, frozen=True):
    """A child's line about one consumer."""

    done: Consumer
    ok: bool
    skipped: bool
    code: Code | None
    detail: str
    files_read: tuple[str, ...]
    seconds: float


class _About(msgspec.Struct, frozen=True):
    """A child's line about its cage."""

    isolation: tuple[str, ...] = ()
    not_isolated: tuple[str, ...] = ()
    tracing: str = ""


@dataclass
class _Pending:
    """A load test that is under way: the child's lines so far, and how it ended."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    ended: anyio.Event = field(default_factory=anyio.Event)
    exit: int | None = None
    why: str = ""
    stderr: str = ""


class Loader:
    """Opens model directories in child processes. Use as ``async with Loader() as loader``.

    Args:
        limits: Bounds of each load test.
        environment: Variables that the interpreter needs to start here (``LD_LIBRARY_PATH``); it gets no others.
        search_path: Where the child finds its modules; this process's own by default, without the current directory.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        search_path: tuple[str, ...] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._environment = dict(environment or {})
        self._search_path = search_path
        self._process: anyio.abc.Process | None = None
        self._pending: dict[int, _Pending] = {}
        self._count = 0
        self._missing = ""
        self._stderr = b""

    async def __aenter__(self) -> Self:
        self._starting, self._slots = anyio.Lock(), anyio.CapacityLimiter(self.limits.children)
        self._scratch = scratch("load")
        self._home = await anyio.to_thread.run_sync(self._scratch.__enter__)
        if self._search_path is None:
            self._search_path = await anyio.to_thread.run_sync(own_search_path)
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        process, self._process = self._process, None
        with anyio.CancelScope(shield=True):
            if process is not None:
                await _stop(process)
            await anyio.to_thread.run_sync(self._scratch.__exit__, None, None, None)
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(kind, error, trace)

    async def warm(self) -> None:
        """Start the nursery if it does not run, and return when it has imported what it needs.

        Raises:
            AdmissionError: ``LOAD_TEST_UNAVAILABLE``: the process does not start.
        """
        async with self._starting:
            if self._process is None:
                await self._start()

    async def load(self, directory: Path, *, trace: bool = False) -> LoadReport:
        """Open ``directory`` and return how each consumer fared.

        Args:
            directory: A model directory; nothing in it is trusted, and nothing of it is written.
            trace: Whether to tell which files each consumer opened.

        Raises:
            AdmissionError: ``LOAD_TEST_UNAVAILABLE``: no process could be started for it.
        """
        absolute = await anyio.to_thread.run_sync(directory.absolute)  # the nursery works in a directory of its own
        async with self._slots:
            await self.warm()
            began = anyio.current_time()
            self._count += 1
            number, pending = self._count, _Pending()
            self._pending[number] = pending
            try:
                await self._send({"load": number, "directory": str(absolute), "trace": trace} | asdict(self.limits))
                with anyio.move_on_after(self.limits.seconds + _GRACE_S) as overdue:
                    await pending.ended.wait()
                if overdue.cancelled_caught:
                    await self._abandon()
            except BaseException:
                with anyio.CancelScope(shield=True), contextlib.suppress(AdmissionError):
                    await self._send({"cancel": number})
                raise
            finally:
                del self._pending[number]
            return _report(pending, self._missing, anyio.current_time() - began)

    async def _start(self) -> None:
        arguments = [sys.executable, "-I", "-B", "-c", _BOOT, json.dumps(self._search_path)]
        environment = {"HF_HOME": str(self._home), "HOME": str(self._home), "TMPDIR": str(self._home)}
        try:
            process = await anyio.open_process(
                arguments, cwd=self._home, env=ENVIRONMENT | environment | self._environment
            )
        except OSError as error:
            raise _unavailable(f"the load test's process does not start: {error}") from error
        assert process.stdout is not None
        self._stderr = b""
        lines = BufferedByteReceiveStream(process.stdout)
        self._tasks.start_soon(self._drain_stderr, process)
        try:
            with anyio.fail_after(_START_S):
                ready = json.loads(await lines.receive_until(b"\n", _MAX_LINE_BYTES))
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await _stop(process)
            if isinstance(error, anyio.IncompleteRead | anyio.EndOfStream | TimeoutError | ValueError):
                why = self._stderr.decode(errors="replace").strip().rpartition("\n")[2]
                raise _unavailable(
                    f"the load test's process did not get ready: {why or type(error).__name__}"
                ) from error
            raise
        self._process, self._missing = process, ready["missing"]
        self._tasks.start_soon(self._read, process, lines)

    async def _read(self, process: anyio.abc.Process, lines: BufferedByteReceiveStream) -> None:
        """Hand the nursery's lines to those who wait; when it ends, all of them are told."""
        try:
            while True:
                self._take(json.loads(await lines.receive_until(b"\n", _MAX_LINE_BYTES)))
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass  # the nursery has ended: every load test under way is told below
        finally:
            if self._process is process:
                self._process = None
            for pending in self._pending.values():
                if not pending.ended.is_set():
                    pending.why = pending.why or "the load test's process ended"
                    pending.ended.set()
            with anyio.CancelScope(shield=True):
                await _stop(process)

    def _take(self, message: dict[str, Any]) -> None:
        pending = self._pending.get(message["id"])
        if pending is None:
            return  # its caller has given up
        if "line" in message:
            with contextlib.suppress(ValueError):  # a line that a dying child tore; its exit says the rest
                value = json.loads(message["line"])
                pending.lines.append(value if isinstance(value, dict) else {})
        else:
            pending.exit, pending.why, pending.stderr = message["exit"], message["why"], message["stderr"]
            pending.ended.set()

    async def _send(self, value: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            raise _unavailable("the load test's process has ended")
        try:
            await self._process.stdin.send(json.dumps(value).encode() + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise _unavailable("the load test's process has ended") from error

    async def _abandon(self) -> None:
        """Kill a nursery that does not keep its deadlines; the next load starts another."""
        if (process := self._process) is not None:
            self._process = None
            await _stop(process)

    async def _drain_stderr(self, process: anyio.abc.Process) -> None:
        if process.stderr is not None:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                async for chunk in process.stderr:
                    self._stderr = (self._stderr + chunk)[-4000:]


async def _stop(process: anyio.abc.Process) -> None:
    # Not process.kill(): that first polls, and so takes the exit status away from the event loop, which then warns.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # its children die with it: PR_SET_PDEATHSIG; elsewhere by CPU limit
    await process.aclose()


def _report(pending: _Pending, missing: str, seconds: float) -> LoadReport:
    """Put the child's lines together. A line that a dying or hostile child garbled counts as not sent."""
    done: dict[str, ConsumerReport] = {}
    about = _About()
    for line in pending.lines:
        with contextlib.suppress(msgspec.ValidationError):
            if "isolation" in line:
                about = msgspec.convert(line, _About)
            elif "done" in line:
                part = msgspec.convert(line, _Done)
                values = {key: getattr(part, key) for key in part.__struct_fields__ if key != "done"}
                done[part.done.value] = ConsumerReport(consumer=part.done.value, **values)
    code, detail = _end(pending)
    return LoadReport(
        consumers=tuple(_whole(done, code, detail)),
        versions=versions(),
        seconds=seconds,
        unavailable=missing,
        isolation=about.isolation,
        not_isolated=about.not_isolated,
        tracing=about.tracing,
    )


def _whole(done: Mapping[str, ConsumerReport], code: Code, detail: str) -> Iterator[ConsumerReport]:
    """Yield a report for each consumer; the first that sent none ended the child, and those after it were not run."""
    blamed = False
    for consumer in Consumer:
        if report := done.get(consumer.value):
            yield report
        elif not blamed:
            blamed = True
            yield ConsumerReport(consumer=consumer.value, ok=False, code=code, detail=detail)
        else:
            why, limit = "not run: the process had ended before", code if code is Code.LOAD_TEST_LIMIT else None
            yield ConsumerReport(consumer=consumer.value, ok=False, skipped=True, code=limit, detail=why)


def _end(pending: _Pending) -> tuple[Code, str]:
    """Say why a child ended before its time."""
    said = " ".join(pending.stderr.split())[-300:]
    if pending.why == "over time":
        return Code.LOAD_TEST_LIMIT, "killed at its deadline"
    if pending.exit in (-signal.SIGXCPU, -signal.SIGKILL) or pending.why:
        return Code.LOAD_TEST_LIMIT, pending.why or "killed at its limit of processor time or memory"
    if "memory allocation of" in pending.stderr or "MemoryError" in pending.stderr:
        return Code.LOAD_TEST_LIMIT, f"out of memory: {said}"
    how = _CRASHES.get(pending.exit or 0, f"ended with status {pending.exit}")
    return Code.CONSUMER_PANICKED, f"{how}: {said}" if said else how


def _unavailable(detail: str) -> AdmissionError:
    return AdmissionError(Code.LOAD_TEST_UNAVAILABLE, detail)
