"""A Redis client that leaves a Redis which does not answer alone for a while.

Each operation on a silent Redis costs its timeout, and a page makes several. After one that failed, the process asks no
more for a second, then, after each trial that fails, for twice as long, up to ten seconds: a circuit breaker. Whatever
is refused meanwhile raises PausedError at once, a ConnectionError, so that who gets along without Redis needs to know
nothing of this. A command that is answered, by an error too, ends the pause.

Deletions are never refused. One that is skipped would leave an old value for all to read in a Redis that may be back,
so each costs its timeout and is a trial as well: it may end the pause, and it does not prolong it.
"""

import threading
import time
from collections.abc import Callable
from functools import cache
from random import SystemRandom
from typing import Any, Final

import redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

SHORTEST: Final = 1.0
LONGEST: Final = 10.0
# A pause is shortened by up to this share, at random: the processes of a site do not all come back at one moment.
JITTER: Final = 0.2
DELETIONS: Final = {"DEL", "UNLINK"}

clock = time.monotonic
random = SystemRandom().random


class PausedError(ConnectionError):
    """Redis was not asked, since it did not answer a moment ago."""


class Pause:
    """Whether a Redis is to be asked. Threads and greenlets share it; nobody holds the lock while asking."""

    def __init__(self) -> None:
        """Begin without a pause."""
        self._lock = threading.Lock()
        self._length = 0.0  # of the pause that is on; 0 while there is none
        self._ends = 0.0

    def run(self, command: Callable[[], Any], *, always: bool = False) -> Any:
        """Run a command and learn from what becomes of it.

        Args:
            command: Asks Redis.
            always: Run it even in a pause.

        Raises:
            PausedError: It was not run.
        """
        length = self._length if always else self._admit()
        try:
            result = command()
        except (ConnectionError, TimeoutError):
            self._begin(length, prolong=not always)
            raise
        except ResponseError:
            self._end()
            raise
        self._end()
        return result

    def _admit(self) -> float:
        """Return the length of the pause that is over, 0 where there was none; refuse all but one until it is known."""
        with self._lock:
            if not self._length:
                return 0.0
            if clock() < self._ends:
                raise PausedError("Redis did not answer a moment ago")
            # The caller tries for all. Should it never come back, another one tries after this.
            self._ends = clock() + self._length
            return self._length

    def _begin(self, length: float, *, prolong: bool) -> None:
        """Begin a pause after a command that was admitted when the pause was of this length."""
        with self._lock:
            # Several commands that were on their way together fail together, and only the first counts.
            if self._length == length and (prolong or not length):
                self._length = min(2 * length, LONGEST) or SHORTEST
                self._ends = clock() + self._length * (1 - JITTER * random())

    def _end(self) -> None:
        if self._length:
            with self._lock:
                self._length = 0.0


@cache
def pause_of(host: str | None, port: int | None, path: str | None) -> Pause:
    """Return the pause of a Redis: one for the process, where each thread has a client of its own."""
    return Pause()


class PausingRedis(redis.Redis):
    """A client that asks through the pause of its Redis."""

    @property
    def _pause(self) -> Pause:
        options = self.connection_pool.connection_kwargs
        return pause_of(options.get("host"), options.get("port"), options.get("path"))

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Ask Redis, unless there is a pause and the command is no deletion."""
        command = super().execute_command
        return self._pause.run(lambda: command(*args, **options), always=args[0] in DELETIONS)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "PausingPipeline":
        """Return a pipeline that is refused in a pause as a whole."""
        return PausingPipeline(self._pause, self.connection_pool, self.response_callbacks, transaction, shard_hint)


class PausingPipeline(Pipeline):
    """Commands that are sent together, through the pause of their Redis."""

    def __init__(self, pause: Pause, *args: Any) -> None:
        """Take the pause, and what every pipeline takes."""
        super().__init__(*args)
        self._pause = pause

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Ask Redis, unless there is a pause."""
        command = super().execute
        return self._pause.run(lambda: command(raise_on_error))
