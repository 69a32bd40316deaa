"""The ``placecard`` command: a table of commands that are imported when they are called, and the edge where errors
end."""

from __future__ import annotations

import logging
import os
import signal
import sys

from cyclopts import App, CycloptsError

from placecard import __version__
from placecard.cli import streams
from placecard.cli.variables import Variables
from placecard.errors import Code, PlacecardError, UsageError, flatten

_HELP = """Model metadata for a fleet of LLM engines: complete, proven, and never silently worse.

A worker publishes a model deployment card; a front end resolves it to a directory that `from_pretrained()` opens
offline.
"""
_EPILOGUE = """Examples

  placecard publish --model-dir ./my-model --name acme/river
  placecard resolve acme/river
  placecard doctor acme/river

Exit codes: 0 ok, 1 failure, 2 usage, 3 degraded. Every flag has a variable: PLACECARD_<COMMAND>_<FLAG> or
PLACECARD_<FLAG>."""

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_DEGRADED, EXIT_INTERRUPTED = 0, 1, 2, 3, 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


def build_app() -> App:
    """Return the command table. Nothing heavy is imported: each command's module is loaded when it is called."""
    app = App(
        name="placecard",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version=__version__,
        config=[Variables(os.environ)],
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, help_ in {
        "publish": "Advertise a model and serve its metadata until SIGTERM.",
        "resolve": "Turn an advertised model into a proven directory, and print it.",
        "doctor": "Say for each consumer whether a directory serves it, and what to do if not.",
    }.items():
        app.command(f"placecard.cli.{name}:{name}", name=name, help=help_)
    card = App(name="card", help="Build, read, check and compare model deployment cards.")
    for name, help_ in {
        "build": "Build the card of a directory or hub repository.",
        "show": "Show a card.",
        "verify": "Check files against their card.",
        "diff": "Name every field and file that differs between two cards.",
        "lint": "Report all defects of a card, and advice.",
        "schema": "Print the JSON Schema of a card.",
    }.items():
        card.command(f"placecard.cli.card:{name}", name=name, help=help_)
    cache = App(name="cache", help="Look after the store of proven files.")
    for name, help_ in {
        "ls": "List the models of the store.",
        "path": "Print the stable directory of a model.",
        "verify": "Hash every stored file again.",
        "gc": "Delete what nothing uses.",
        "export": "Write a model as one bundle, for a host without network.",
        "import": "Read a bundle into the store.",
        "rm": "Remove a model.",
    }.items():
        function = {"import": "import_"}.get(name, name)
        cache.command(f"placecard.cli.cache:{function}", name=name, help=help_)
    workers = App(name="workers", help="Look at the workers of a registry.")
    workers.command("placecard.cli.workers:ls", name="ls", help="List the workers, and what each advertises.")
    app.command(card)
    app.command(cache)
    app.command(workers)
    return app


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code. No traceback reaches the user."""
    streams.open_missing()
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run the command line ``argv`` and return its exit code."""
    logging.getLogger("placecard").addHandler(logging.NullHandler())  # the screen tells; `publish` logs
    streams.escape_what_cannot_be_said()
    with streams.terminable() as terminated:
        try:
            code = _called(argv)
        except KeyboardInterrupt:
            code = EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
    return code if streams.flush() else EXIT_FAILURE


def _called(argv: list[str]) -> int:
    try:
        code = build_app()(argv, exit_on_error=False, print_error=True)
    except CycloptsError:
        return EXIT_USAGE
    except Exception as error:  # noqa: BLE001  # the edge: everything ends as one clear message
        try:
            if not streams.is_of_output(error):
                return _report(error, json="--json" in argv)
        except OSError as unsaid:
            error = unsaid
        streams.say_unwritable(error)
        return EXIT_FAILURE
    return code if isinstance(code, int) else EXIT_OK


def _report(error: Exception, *, json: bool) -> int:
    from placecard.cli.output import print_errors
    from placecard.config import environment

    errors = tuple(flatten(error))
    if not errors:
        if environment().debug:
            raise error
        detail = f"{type(error).__name__}: {error}"
        errors = (PlacecardError(Code.INTERNAL, detail, mend="Run again with PLACECARD_DEBUG=1 and report the text."),)
    print_errors(errors, json=json)
    return EXIT_USAGE if isinstance(errors[0], UsageError) else EXIT_FAILURE
