#!/usr/bin/python
"""Read all that is in a Redis instance, or add such records to one."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Self

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.redis import certificates

DOCUMENTATION = r"""
module: redis_records
short_description: Read all that is in a Redis instance, or add such records to one
description:
  - Moves what is left of a queue from one server to another. What is there already is kept. The elements of a list go
    behind its own, where Celery takes its next message from.
  - An instance that others than this module are logged in to is not read, as it may change yet; they are named. One
    that does not run has nothing.
options:
  state: {description: What to do., type: str, choices: [read, added], required: true}
  port: {description: The instance on this host., type: int, required: true}
  user: {description: An ACL user with all rights., type: str, required: true}
  password: {description: The password of that user., type: str, required: true}
  records: {description: What an earlier C(read) has returned., type: list, elements: dict, default: []}
author: Slipway contributors
"""

RETURN = r"""
records: {description: "Commands that make the records, each with its database.", type: list, returned: when read}
users: {description: "Who else is logged in, as C(celery from 10.0.0.5:41234).", type: list, returned: when read}
messages: {description: How many elements the lists among the records have., type: int, returned: always}
"""

PAGE = 1000  # elements in one command
TIMEOUT = 30  # seconds


class RefusedError(Exception):
    """Redis has answered with an error."""


class Redis:
    """A connection to an instance on this host, by Redis's own protocol (RESP): Debian's Python has no client."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        if path := certificates("broker"):
            context = ssl.create_default_context(cafile=path)
            self._socket = context.wrap_socket(self._socket, server_hostname="127.0.0.1")
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        """Return the open connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()
        self._socket.close()

    def __call__(self, *words: str | bytes | int) -> Any:
        """Run a command and return the answer: bytes, an integer, a list of them, or None."""
        coded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = (b"$%d\r\n%s\r\n" % (len(word), word) for word in coded)
        self._socket.sendall(b"*%d\r\n%s" % (len(coded), b"".join(parts)))
        return self._answer()

    def _answer(self) -> Any:
        line = self._file.readline()
        if not line:
            raise RefusedError("Redis has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RefusedError(rest.decode(errors="replace"))
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"*":
            return [self._answer() for _ in range(size)]
        return self._file.read(size + 2)[:-2]


def databases(redis: Redis) -> list[int]:
    """Return the numbers of the databases that have keys."""
    info = redis("INFO", "keyspace").decode()
    return [int(line[2:].split(":")[0]) for line in info.splitlines() if line.startswith("db")]


def pages(elements: list[bytes], size: int = PAGE) -> Iterator[list[bytes]]:
    """Yield the elements, some at a time."""
    for start in range(0, len(elements), size):
        yield elements[start : start + size]


def commands(redis: Redis, key: bytes) -> Iterator[list[bytes]]:
    """Yield the commands that add what a key of the database has to another's."""
    kind = redis("TYPE", key)
    if kind == b"list":
        for page in pages(redis("LRANGE", key, 0, -1)):
            yield [b"RPUSH", key, *page]
    elif kind == b"set":
        for page in pages(redis("SMEMBERS", key)):
            yield [b"SADD", key, *page]
    elif kind == b"hash":
        for page in pages(redis("HGETALL", key)):
            yield [b"HSET", key, *page]
    elif kind == b"zset":
        for page in pages(redis("ZRANGE", key, 0, -1, "WITHSCORES")):
            # Members come before their scores, and are given after them.
            pairs = zip(page[1::2], page[::2], strict=True)
            yield [b"ZADD", key, *(word for pair in pairs for word in pair)]
    elif kind == b"string":
        yield [b"SET", key, redis("GET", key)]
    elif kind != b"none":
        raise RefusedError(f"{key.decode(errors='replace')} is a {kind.decode()}, which is not known here")
    if (left := redis("PTTL", key)) > 0:
        yield [b"PEXPIRE", key, str(left).encode()]


def read(redis: Redis) -> list[dict[str, Any]]:
    """Return what makes all records of the instance."""
    records = []
    for database in databases(redis):
        redis("SELECT", database)
        for key in sorted(redis("KEYS", "*")):
            for words in commands(redis, key):
                coded = [base64.b64encode(word).decode() for word in words]
                records.append({"database": database, "words": coded})
    return records


def add(redis: Redis, records: list[dict[str, Any]]) -> None:
    """Add the records, all or none of them."""
    redis("MULTI")
    for record in records:
        redis("SELECT", record["database"])
        redis(*(base64.b64decode(word) for word in record["words"]))
    redis("EXEC")


def others(redis: Redis) -> list[str]:
    """Return who else is logged in, as "celery from 10.0.0.5:41234"."""
    own = redis("CLIENT", "ID")
    found = []
    for line in redis("CLIENT", "LIST").decode().splitlines():
        client = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
        if int(client["id"]) != own:
            found.append(f"{client.get('user', '?')} from {client['addr']}")
    return found


def messages(records: list[dict[str, Any]]) -> int:
    """Return how many elements the records add to lists."""
    push = base64.b64encode(b"RPUSH").decode()
    return sum(len(record["words"]) - 2 for record in records if record["words"][0] == push)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["read", "added"], "required": True},
            "port": {"type": "int", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "records": {"type": "list", "elements": "dict", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    records = module.params["records"]
    result: dict[str, Any] = {"changed": False, "users": [], "records": []}
    try:
        with Redis(module.params["port"]) as redis:
            redis("AUTH", module.params["user"], module.params["password"])
            if module.params["state"] == "read":
                result["users"] = others(redis)
                records = result["records"] = [] if result["users"] else read(redis)
            elif records:
                result["changed"] = True
                if not module.check_mode:
                    add(redis, records)
    except ConnectionRefusedError as error:
        if module.params["state"] == "added":
            module.fail_json(msg=f"Redis at port {module.params['port']}: {error}")
    except (OSError, RefusedError) as error:
        module.fail_json(msg=f"Redis at port {module.params['port']}: {error}")
    module.exit_json(**result, messages=messages(records))


if __name__ == "__main__":
    main()
