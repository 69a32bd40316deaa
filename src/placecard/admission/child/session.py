"""What one child does: close the cage, open the directory consumer by consumer, write one JSON line for each."""

from __future__ import annotations

import json
import os
import posixpath
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from placecard.admission.child import cage
from placecard.admission.child.libraries import missing_library
from placecard.admission.child.opening import Opening
from placecard.admission.child.outcomes import RejectedError, Skipped
from placecard.admission.child.trace import Trace
from placecard.admission.code_keys import CodeFinding, Danger, code_keys
from placecard.admission.configs import Configs, read_configs
from placecard.admission.consumers import KNOWN_NAMES, Consumer, is_versioned_config
from placecard.errors import Code, PlacecardError

MAX_FILES: Final = 2048
MAX_DETAIL: Final = 400
# Keys that list files for some releases. Source: transformers 5.23, configuration_utils.py, tokenization_utils_base.py.
_NAMES_CONFIGS: Final = "configuration_files"
_NAMES_FILES: Final = (_NAMES_CONFIGS, "fast_tokenizer_files")


class OverTime(BaseException):
    """The consumer used up its own time. Not an Exception: no library may catch it."""


def session(request: dict[str, Any], send: Callable[[dict[str, Any]], None], *, transformers: bool) -> None:
    """Open ``request["directory"]`` and ``send`` how each consumer fared.

    Args:
        request: ``directory``, ``trace``, ``seconds``, ``memory_bytes``, ``open_files``, ``template_seconds``.
        send: Takes one JSON object.
        transformers: Whether it can be imported here.
    """
    directory = Path(os.path.realpath(request["directory"]))
    try:
        files = dict(_files(directory))
    except OSError as error:
        _send_unlisted(send, error)
        return
    trace = Trace(files) if request["trace"] else None
    held, lost = cage.close(
        directory,
        [Path(os.path.realpath(path)) for path in files.values()],
        seconds=request["seconds"],
        memory_bytes=request["memory_bytes"],
        open_files=request["open_files"],
    )
    send({"isolation": held, "not_isolated": lost, "tracing": trace.how if trace else ""})
    configs = read_configs(directory, files)
    if trace:
        trace.drain(Consumer.CONFIG)  # what was opened so far was opened by us
    opening = Opening(directory, frozenset(files), configs, transformers)
    refused = _refused(code_keys(configs.parsed), _named(configs, *_NAMES_FILES))
    signal.signal(signal.SIGALRM, _over_time)
    for consumer, work in opening.consumers().items():
        seconds = request["template_seconds"] if consumer is Consumer.CHAT_TEMPLATE else 0.0
        outcome = _outcome(consumer, work, configs, refused.get(consumer), alarm_s=seconds)
        read = trace.drain(consumer) if trace else ()
        if outcome["skipped"] and outcome["code"] is None:
            read = ()  # what it looked into before it was clear that there is nothing for it
        send(outcome | {"done": consumer.value, "files_read": read})


def _send_unlisted(send: Callable[[dict[str, Any]], None], error: OSError) -> None:
    """Send that nothing was opened: a directory that cannot be listed is not one that has nothing to open."""
    why = f"the directory cannot be listed: {error.strerror or error}"
    for consumer in Consumer:
        first = consumer is Consumer.CONFIG
        code, detail = (Code.CONSUMER_FAILED.value, why) if first else (None, f"not run: {why}")
        outcome = {"ok": False, "skipped": not first, "code": code, "detail": detail, "seconds": 0.0}
        send(outcome | {"done": consumer.value, "files_read": ()})


def _outcome(
    consumer: Consumer, work: Callable[[], str], configs: Configs, refused: CodeFinding | None, *, alarm_s: float
) -> dict[str, Any]:
    """Run one consumer; whatever it raises, panics of native code included, becomes its report."""
    began = time.perf_counter()
    ok, skipped, code, detail = False, False, None, ""
    try:
        if refused is not None:
            code, detail = Code.CODE_BEARING_CONFIG, f"{refused.name}: {refused.where} = {refused.value}"
        elif broken := _broken(consumer, configs):
            # What cannot be parsed could not be searched for code either.
            code, detail = Code.CONSUMER_FAILED, broken
        else:
            signal.setitimer(signal.ITIMER_REAL, alarm_s)
            try:
                detail, ok = work(), True
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except Skipped as skip:
        skipped, detail = True, str(skip)
        code = Code.LOAD_TEST_UNAVAILABLE if skip.unavailable else None
    except OverTime:
        code, detail = Code.LOAD_TEST_LIMIT, f"not done after {alarm_s:g} s"
    except MemoryError:
        code, detail = Code.LOAD_TEST_LIMIT, "out of memory"
    except (RejectedError, PlacecardError) as error:
        code, detail = Code.CONSUMER_FAILED, str(error)
    except Exception as error:  # noqa: BLE001 - this is the boundary: any error of a consumer is its outcome
        code, detail = Code.CONSUMER_FAILED, f"{type(error).__name__}: {error}"
        if library := missing_library(error):
            skipped, code = True, Code.LOAD_TEST_UNAVAILABLE
            detail = f"{library} is not installed, and the model cannot be opened without it (`pip install {library}`)"
    except BaseException as error:  # noqa: BLE001 - pyo3's PanicException is no Exception
        code, detail = Code.CONSUMER_PANICKED, f"{type(error).__name__}: {error}"
    return {
        "ok": ok,
        "skipped": skipped,
        "code": None if code is None else code.value,
        "detail": _clean(detail),
        "seconds": round(time.perf_counter() - began, 6),
    }


def _refused(findings: tuple[CodeFinding, ...], named: frozenset[str]) -> dict[Consumer, CodeFinding]:
    """Return the consumers that never see their files, because a key of them has loaded code in spite of every flag.

    ``config.json`` is opened by all consumers of transformers, so a finding in it refuses them all; so does one in a
    configuration for some releases, and in any file that a configuration names.
    """
    refused: dict[Consumer, CodeFinding] = {}
    for finding in findings:
        if finding.danger is not Danger.BYPASS:
            continue
        for_all = finding.name == "config.json" or finding.name in named or is_versioned_config(finding.name)
        for consumer in Consumer:
            if for_all or finding.name in KNOWN_NAMES[consumer]:
                refused.setdefault(consumer, finding)
    return refused


def _broken(consumer: Consumer, configs: Configs) -> str:
    """Return which file of ``consumer`` cannot be parsed, and why; empty if all can."""
    mine = KNOWN_NAMES[consumer] | {"config.json"} | _named(configs, _NAMES_CONFIGS)
    return next((f"{name}: {why}" for name, why in configs.broken.items() if name in mine), "")


def _named(configs: Configs, *keys: str) -> frozenset[str]:
    """Return the files that configurations name in the lists ``keys``."""
    lists = [value.get(key) for value in configs.parsed.values() if isinstance(value, dict) for key in keys]
    texts = [text for each in lists if isinstance(each, list) for text in each if isinstance(text, str)]
    return frozenset(posixpath.normpath(text) for text in texts)


def _clean(text: str) -> str:
    line = " ".join(text.split())
    printable = "".join(c if c.isprintable() else "?" for c in line)
    return printable if len(printable) <= MAX_DETAIL else printable[: MAX_DETAIL - 3] + "..."


def _over_time(signum: int, frame: object) -> None:
    raise OverTime


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the regular files beneath ``directory``, links to files followed, links to folders not.

    Raises:
        OSError: ``directory`` itself cannot be listed.
    """
    os.scandir(directory).close()  # os.walk passes over what it cannot list
    count = 0
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file():
                yield path.relative_to(directory).as_posix(), path
                count += 1
            if count >= MAX_FILES:
                return


def main_child(request: dict[str, Any], out: int, *, transformers: bool) -> None:
    """Run :func:`session`, write its lines to descriptor ``out``, and end the process without the parent's clean-up."""

    def send(value: dict[str, Any]) -> None:
        data = json.dumps(value).encode() + b"\n"
        while data:
            data = data[os.write(out, data) :]

    status = 1
    try:
        session(request, send, transformers=transformers)
        status = 0
    except BaseException as error:  # noqa: BLE001 - the parent sees the status and this text
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(status)
