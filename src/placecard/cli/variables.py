"""Variables for flags: ``PLACECARD_<COMMAND>_<FLAG>``, and ``PLACECARD_<FLAG>`` for the flags that commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cyclopts.argument import ArgumentCollection, Token
from cyclopts.config import Env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cyclopts import App
    from cyclopts.argument import Argument

PREFIX: Final = "PLACECARD_"
# What means the same for every command that has it. A name or directory is the business of one command.
SHARED: Final = frozenset(
    {"cache-dir", "lower-dir", "quota-bytes", "discovery", "load-test", "load-timeout", "offline", "strict"}
    | {"file-root", "model-path", "worker-range", "worker-origin", "worker-token-file"}
)


class Variables(Env):
    """Reads the variables of a command's flags; what stands by position has none, and an empty one counts as unset.

    Args:
        env: The environment.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(PREFIX, show=False)
        self._env = env

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Give each flag that the command line leaves open the value of its variable."""
        for argument in arguments:
            name = _flag(argument)
            if name is None or argument.tokens or argument.children:
                continue
            mine = PREFIX + "_".join((*commands, name)).upper().replace("-", "_")
            shared = PREFIX + name.upper().replace("-", "_")
            for variable in (mine, shared) if name in SHARED else (mine,):
                if value := self._env.get(variable, ""):
                    self._give(argument, variable, value)
                    break

    def _give(self, argument: Argument, variable: str, value: str) -> None:
        for index, part in enumerate(argument._split_env_value(value, ())):
            argument.append(Token(keyword=variable, value=part, source=self.source, index=index))


def _flag(argument: Argument) -> str | None:
    """Return the flag's name without dashes; None for what stands by position alone."""
    return argument.name.removeprefix("--") if argument.name.startswith("--") else None
