"""The cage, tried from inside by code that has taken over the child."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and Landlock are Linux's")

PRISONER = """
import ctypes, json, os, socket, subprocess, sys
from pathlib import Path
from placecard.admission.child import cage

own, secret = Path(sys.argv[1]), Path(sys.argv[2])
held, lost = cage.close(own, [own / "config.json"], seconds=20, memory_bytes=1 << 28, open_files=64)
libc = ctypes.CDLL(None, use_errno=True)

def connect():
    descriptor = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)  # past Python, as native code would
    address = b"\\x02\\x00" + int(sys.argv[3]).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    if libc.connect(descriptor, address, 16):
        raise OSError(ctypes.get_errno(), "connect")

def run():
    libc.execv(b"/bin/true", (ctypes.c_char_p * 2)(b"true", None))
    raise OSError(ctypes.get_errno(), "execv")

def signal_parent():
    if libc.kill(os.getppid(), 0):
        raise OSError(ctypes.get_errno(), "kill")

ways = {
    "read its model": lambda: (own / "config.json").read_text(),
    "read a secret": lambda: secret.read_text(),
    "read accounts": lambda: Path("/etc/passwd").read_text(),
    "read its parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "list homes": lambda: os.listdir(Path.home().parent),
    "write into its model": lambda: (own / "new").open("w"),
    "remove its model": lambda: (own / "config.json").unlink(),
    "write elsewhere": lambda: (secret.parent / "new").open("w"),
    "connect": connect,
    "open a socket": socket.socket,
    "resolve a name": lambda: socket.getaddrinfo("localhost", 80),
    "run a program": run,
    "start a program": lambda: subprocess.run(["true"]),
    "fork": os.fork,
    "eat memory": lambda: bytearray(1 << 29),
    "signal its parent": signal_parent,
}
result = {}
for way, go in ways.items():
    try:
        go()
        result[way] = "done"
    except BaseException as error:
        result[way] = type(error).__name__
print(json.dumps({"held": held, "lost": lost, "result": result}))
"""


def test_a_child_that_was_taken_over_reaches_nothing_but_its_model(tmp_path: Path) -> None:
    own, secret = tmp_path / "own", tmp_path / "secret"
    own.mkdir()
    (own / "config.json").write_text("{}")
    secret.write_text("canary")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [sys.executable, "-c", PRISONER, str(own), str(secret), str(server.getsockname()[1])]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    assert answer["lost"] == []
    result = answer["result"]
    assert result.pop("read its model") == "done"
    if result["signal its parent"] == "done":
        del result["signal its parent"]  # a kernel older than 6.12: Landlock has no scope for signals
    assert "done" not in result.values(), result
    assert (own / "config.json").exists() and result["eat memory"] == "MemoryError"
