"""The cage of a child: limits, no network, no program, no file outside the model and the interpreter.

Each measure stands on its own; what a system does not offer is reported, never passed over.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

from placecard.admission.child import landlock

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG: Final = 1
# What a consumer never has a reason to do. Source: Python library reference, table of audit events.
_FORBIDDEN_EVENTS: Final = frozenset(
    {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}
    | {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn"}
    | {"pickle.find_class", "os.remove", "os.rename", "os.mkdir", "os.chmod", "os.symlink", "os.link", "os.truncate"}
)


class ForbiddenError(PermissionError):
    """A consumer tried what no consumer has a reason to do; libraries meet it as the kernel's own refusal."""


def close(
    directory: Path, files: Iterable[Path], *, seconds: float, memory_bytes: int, open_files: int
) -> tuple[list[str], list[str]]:
    """Close the cage around this process; return the measures that hold and those that could not be had.

    Args:
        directory: The model directory, which stays readable.
        files: Real paths of its files, which stay readable wherever they lie.
        seconds: CPU time after which the kernel kills the process.
        memory_bytes: Address space beyond what the process has now.
        open_files: File descriptors.
    """
    held: list[str] = []
    lost: list[str] = []
    measures: list[tuple[str, Callable[[], None]]] = [
        ("dies with its parent", _die_with_parent),
        ("network namespace", _leave_network),
        ("landlock", lambda: landlock.confine([*_readable(), directory, *files])),
        ("rlimits", lambda: _limit(seconds, memory_bytes, open_files)),
        ("sockets disabled", _disable_sockets),
        ("audit hook", lambda: _watch(directory)),
    ]
    for name, measure in measures:
        try:
            measure()
            held.append(name)
        except (OSError, ValueError, AttributeError) as error:
            lost.append(f"{name}: {error}")
    return held, lost


def _die_with_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _leave_network() -> None:
    """Move into a network namespace of its own, which has no interface that is up."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _limit(seconds: float, memory_bytes: int, open_files: int) -> None:
    space = _address_space_bytes() + memory_bytes
    cpu = max(1, int(seconds) + 1)
    for which, soft in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, space),
    ):
        hard = resource.getrlimit(which)[1]
        bound = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(which, (bound, bound))


def _address_space_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 1 << 30  # no /proc: an interpreter with transformers and its libraries maps less
    return pages * resource.getpagesize()


def _disable_sockets() -> None:
    class NoSocket(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            _refuse("socket")

    socket.socket = NoSocket  # type: ignore[misc]


def _watch(directory: Path) -> None:
    beneath = str(directory) + os.sep

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN_EVENTS:
            _refuse(event)
        if event == "exec" and str(getattr(arguments[0], "co_filename", "")).startswith(beneath):
            _refuse("running code of the model directory")

    sys.addaudithook(hook)


def _refuse(what: str) -> NoReturn:
    raise ForbiddenError(f"a consumer tried {what}; nothing of the kind is needed to open a model")


def _readable() -> list[Path]:
    """Return what an interpreter and its libraries read: their own trees and the system's shared libraries."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    system = ["/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/self"]
    devices = ["/dev/null", "/dev/urandom", "/sys/devices/system/cpu", "/sys/fs/cgroup", "/proc/cpuinfo"]
    paths = {*prefixes, *_libraries(), *system, *devices} - {"", "/"}
    return [Path(path).resolve() for path in sorted(paths)]


def _libraries() -> set[str]:
    """Return where modules may be found: folders of installed packages, and else the packages that are loaded already.

    An entry of the search path may be a home directory, for ``python -m`` puts the current one there: not opened whole.
    """
    found = {
        entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages") or Path(entry).is_file()
    }
    for name, module in tuple(sys.modules.items()):
        if "." not in name:
            found.update(str(path) for path in getattr(module, "__path__", ()))
            found.add(str(getattr(module, "__file__", None) or ""))
    return found
