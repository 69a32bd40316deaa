"""The nursery: a process that has imported the heavy parts, and forks one child for each load test.

It reads JSON lines on standard input: ``{"load": id, "directory": …}`` and ``{"cancel": id}``. It writes, on standard
output, the lines of the children with their id, and ``{"id": …, "exit": …}`` when one has ended. One thread, one
selector; the children do the work.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

from placecard.admission.child.session import main_child

MAX_LINE: Final = 256 << 10
MAX_LINES: Final = 64
STDERR_TAIL: Final = 2000


@dataclass
class Child:
    """One running load test: its process, its pipes, and what it may still take."""

    number: int
    pid: int
    out: int
    errors: int
    deadline: float
    buffer: bytes = b""
    tail: bytes = b""
    lines: int = 0
    killed: str = ""
    open: set[int] = field(default_factory=set)


class Nursery:
    """Serves requests until standard input ends."""

    def __init__(self, *, transformers: bool) -> None:
        self._transformers = transformers
        self._children: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._requests = b""

    def serve(self) -> None:
        """Serve; when standard input ends, every child is killed."""
        self._selector.register(0, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    if not self._take_requests():
                        return self._end()
                else:
                    self._take_output(key.data, key.fd)
            self._kill_overdue()

    def _patience(self) -> float | None:
        deadlines = [child.deadline for child in self._children.values() if not child.killed]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _take_requests(self) -> bool:
        data = os.read(0, 65536)
        *lines, self._requests = (self._requests + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "load" in request:
                self._fork(request)
            elif (child := self._children.get(request["cancel"])) is not None:
                self._kill(child, "cancelled")
        return bool(data)

    def _fork(self, request: dict[str, Any]) -> None:
        out_r, out_w = os.pipe()
        errors_r, errors_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_child(request, out_w, errors_w)
        os.close(out_w)
        os.close(errors_w)
        number = request["load"]
        child = Child(number, pid, out_r, errors_r, time.monotonic() + request["seconds"], open={out_r, errors_r})
        self._children[number] = child
        for descriptor in child.open:
            self._selector.register(descriptor, selectors.EVENT_READ, child)

    def _become_child(self, request: dict[str, Any], out: int, errors: int) -> None:
        self._selector.close()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(errors, 1)  # a library that prints must not write into the protocol
        os.dup2(errors, 2)
        os.dup2(out, 3, inheritable=False)
        os.closerange(4, 4096)
        main_child(request, 3, transformers=self._transformers)

    def _take_output(self, child: Child, descriptor: int) -> None:
        data = os.read(descriptor, 65536)
        if not data:
            self._selector.unregister(descriptor)
            os.close(descriptor)
            child.open.discard(descriptor)
            if not child.open:
                self._reap(child)
        elif descriptor == child.errors:
            child.tail = (child.tail + data)[-STDERR_TAIL:]
        else:
            *lines, child.buffer = (child.buffer + data).split(b"\n")
            child.lines += len(lines)
            if child.lines > MAX_LINES or len(child.buffer) > MAX_LINE:
                self._kill(child, "wrote more than a report holds")
                return
            for line in lines:
                self._say({"id": child.number, "line": line.decode(errors="replace")})

    def _reap(self, child: Child) -> None:
        """A child whose pipes are closed has ended, or will not say any more."""
        os.kill(child.pid, signal.SIGKILL)  # a zombie keeps its own status
        _, status = os.waitpid(child.pid, 0)
        del self._children[child.number]
        code = os.waitstatus_to_exitcode(status)
        self._say(
            {"id": child.number, "exit": code, "why": child.killed, "stderr": child.tail.decode(errors="replace")}
        )

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.deadline <= now and not child.killed:
                self._kill(child, "over time")

    def _kill(self, child: Child, why: str) -> None:
        child.killed = child.killed or why
        os.kill(child.pid, signal.SIGKILL)

    def _end(self) -> None:
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)

    def _say(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode() + b"\n"
        while data:
            data = data[os.write(1, data) :]


def main() -> None:
    """Import the heavy parts, say so, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    missing = _import_heavy_parts()
    gc.freeze()  # collections in a child would copy every page
    sys.stdout.write(json.dumps({"ready": os.getpid(), "missing": missing}) + "\n")
    sys.stdout.flush()
    Nursery(transformers=not missing).serve()


def _import_heavy_parts() -> str:
    """Import what every child needs; return why transformers is not usable, or nothing."""
    with contextlib.suppress(ImportError):
        import PIL.Image  # noqa: F401
    try:
        import jinja2  # noqa: F401
        import tokenizers  # noqa: F401
        from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, GenerationConfig  # noqa: F401
        from transformers.utils import chat_template_utils  # noqa: F401
    except ImportError as error:
        return f"{error.name or 'transformers'} is not installed"
    return ""
