"""A read-through cache that keeps a busy site from computing one thing many times.

    boats = ReadThroughCache("boat", ttl=600, stale=3600)
    boats.drop_on_change(Boat, "slug")
    boat = boats.get(slug, lambda: load(slug))      # what load returns; MISSING when it returned that

It stands on Django's Redis cache backend and on nothing else of this project. What it resists, and how:

Penetration (many requests for what does not exist). A computation that finds nothing returns MISSING, which
    is kept for the short time `missing_ttl`. The entry says so in a field beside the value, so no value, None
    included, can be taken for it.
Avalanche (much that was stored together expires together). Each lifetime is shortened at random by up to the
    share `jitter`.
Stampede (all readers of an expired entry compute it). Three things together:
    - Early recomputation, "XFetch": a reader takes an entry for expired a little before it is, with a
      probability that rises towards the end, and sooner for what takes long to compute (the time is measured):
      now - cost * beta * ln(random) >= expiry. A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal
      Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015, https://doi.org/10.14778/2757807.2757813.
      Alone it still lets about e readers compute.
    - A lease in Redis (SET NX PX, with a token): only who has it computes. When its holder dies, it ends by
      itself after `lease` seconds, and the next reader takes it.
    - The stale value, kept for `stale` seconds beyond the expiry: the recomputation runs in a thread, and every
      reader, the one who started it included, has the old value at once. Only where there is no value at all
      do readers wait: one computes, the others look again every few milliseconds, for `lease` seconds at most,
      and then compute for themselves.
Late writers (a value that was read before a change and would be stored after it). A value is stored only
    by the holder of the lease, which a script compares in Redis, and a change removes the lease together with
    the entry: what was computed before is then refused. Changes are announced on commit.
A Redis that is down. Every error of it is logged, and the value computed: slower, not broken. So it is with Django's
    dummy cache, where nothing is kept.

What it leaves to you:
    - `lease` has to be longer than the computation takes: later than that, a value is not stored.
    - A computation sees what is committed. Do not ask for a key inside a transaction that changed its row, or
      at an isolation level above READ COMMITTED.
    - `QuerySet.update`, bulk operations and raw SQL send no signals: call `invalidate_on_commit` yourself.
    - When Redis, or the process, fails between the commit and the invalidation, the old value lives on until
      its expiry.
    - Values are pickled: keep plain data, which the next release can read as well. What cannot be read is
      computed anew.
    - Expiry is compared with the clock of the host that reads.
"""

import logging
import math
import pickle
import secrets
import threading
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from random import SystemRandom
from typing import Any, Final, NamedTuple

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save
from redis import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


class Missing(Enum):
    """The type of MISSING."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

STAMP = 16  # bytes: each entry begins with the token of the lease under which it was written
REFRESHES = threading.BoundedSemaphore(4)  # recomputations in the background, of this process
random = SystemRandom().random

# Take the lease, if the entry is still the one that the caller saw: between its look and this, another reader
# may have recomputed the entry and returned the lease.
CLAIM = """
if redis.call('GETRANGE', KEYS[1], 0, tonumber(ARGV[4]) - 1) ~= ARGV[1] then return 0 end
return redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) and 1 or 0
"""
# Store and return the lease, if it is still the caller's.
STORE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
"""
# Return the lease, if it is still the caller's.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Entry(NamedTuple):
    """What is kept for a key."""

    expires: float
    cost: float
    found: bool
    value: Any


class Slot(NamedTuple):
    """Where the entry of a key is, and its lease."""

    client: Redis
    entry: str
    lease: str

    def read(self) -> tuple[bytes, Entry | None]:
        """Return the stamp of the entry and the entry; no entry where none is or it cannot be understood."""
        data = self.client.get(self.entry) or b""
        stamp, body = data[:STAMP], data[STAMP:]
        if not body:
            return stamp, None
        try:
            return stamp, Entry(*pickle.loads(body))  # noqa: S301 -- as all values in Django's cache are
        except Exception as error:  # noqa: BLE001, RUF100 -- a pickle of another release fails in any way it likes
            logger.warning("Entry %s cannot be read: %s", self.entry, type(error).__name__)
            return stamp, None

    def claim(self, stamp: bytes, life: float) -> bytes | None:
        """Take the lease of an entry that has this stamp; return its token, or None."""
        token = secrets.token_bytes(STAMP)
        arguments = [stamp, token, math.ceil(life * 1000), STAMP]
        return token if self.client.eval(CLAIM, 2, self.entry, self.lease, *arguments) else None

    def store(self, token: bytes, entry: Entry, life: float) -> bool:
        """Store the entry and return the lease; say whether the lease was still held."""
        arguments = [token, token + pickle.dumps(tuple(entry)), math.ceil(life * 1000)]
        return bool(self.client.eval(STORE, 2, self.entry, self.lease, *arguments))

    def release(self, token: bytes) -> None:
        """Return the lease."""
        self.client.eval(RELEASE, 1, self.lease, token)


class ReadThroughCache:
    """Values of one kind by key, each computed when it is asked for and not there."""

    def __init__(
        self,
        name: str,
        *,
        ttl: float,
        stale: float = 3600,
        missing_ttl: float = 30,
        jitter: float = 0.2,
        lease: float = 5,
        beta: float = 1.0,
        poll: float = 0.02,
        alias: str = "default",
    ) -> None:
        """Define a kind of values; all times are in seconds.

        Args:
            name: Begins the keys. Change it when the form of the values changes.
            ttl: The longest time for which a value counts as fresh.
            stale: For how much longer it is served while a new one is computed: the hard limit.
            missing_ttl: The same as ttl for what does not exist; there is no stale absence.
            jitter: The share, from 0 to 1, by which lifetimes are shortened at random.
            lease: For how long a computation is left alone; longer than it takes.
            beta: How early values are recomputed: 0 is not early at all, more than 1 is earlier.
            poll: Pause between two looks of a reader that waits.
            alias: Which of Django's caches, one on Redis, holds the values.
        """
        self.name, self.alias = name, alias
        self.ttl, self.stale, self.missing_ttl, self.jitter = ttl, stale, missing_ttl, jitter
        self.lease, self.beta, self.poll = lease, beta, poll

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the value of the key, computed if need be; MISSING if the computation says that there is none."""
        if self._is_off():
            return compute()
        deadline = time.monotonic() + self.lease
        while True:
            entry = token = None
            try:
                slot = self._slot(key)
                stamp, entry = slot.read()
                if entry is None:
                    token = slot.claim(stamp, self.lease)
                elif self._is_due(entry):
                    self._refresh(slot, stamp, compute)
            except RedisError as error:
                logger.warning("Cache of %s given up: %s", self.name, type(error).__name__)
                if entry is None:
                    return compute()
            if entry:
                return entry.value if entry.found else MISSING
            if token:
                return self._compute(slot, token, compute)
            if time.monotonic() >= deadline:
                logger.warning("Waited %s s for %s in vain", self.lease, slot.entry)
                return compute()
            time.sleep(self.poll)

    def invalidate(self, *keys: str) -> None:
        """Drop the entries of the keys, and the leases of those who compute them at this moment."""
        if self._is_off():
            return
        slots = [self._slot(key) for key in keys]
        try:
            # One command, hence one step: nobody can store in between.
            slots[0].client.delete(*(name for slot in slots for name in (slot.entry, slot.lease)))
        except RedisError as error:
            logger.warning("Invalidation of %s given up: %s", ", ".join(keys), type(error).__name__)

    def invalidate_on_commit(self, *keys: str, using: str = DEFAULT_DB_ALIAS) -> None:
        """Drop the entries of the keys when the transaction is committed, or now when there is none."""
        transaction.on_commit(partial(self.invalidate, *keys), using=using)

    def drop_on_change(self, model: type[Model], field: str) -> None:
        """Drop an entry when the row is saved or deleted whose field is the key, on commit.

        A row that takes another key drops both: what is kept for the old one, and that nothing was there
        under the new one.
        """
        before = f"_{self.name}_key_before"

        def remember(instance: Model, raw: bool, using: str, **kwargs: Any) -> None:
            if not raw and instance.pk is not None:
                rows = model._base_manager.using(using).filter(pk=instance.pk)
                setattr(instance, before, rows.values_list(field, flat=True).first())

        def drop(instance: Model, using: str, **kwargs: Any) -> None:
            # After the write: without a transaction, "on commit" is now.
            keys = {getattr(instance, field), getattr(instance, before, None)} - {None}
            self.invalidate_on_commit(*map(str, keys), using=using)

        identity = f"{__name__}.{self.name}"
        pre_save.connect(remember, sender=model, weak=False, dispatch_uid=identity)
        post_save.connect(drop, sender=model, weak=False, dispatch_uid=identity)
        post_delete.connect(drop, sender=model, weak=False, dispatch_uid=identity)

    def _is_off(self) -> bool:
        return isinstance(caches[self.alias], DummyCache)

    def _slot(self, key: str) -> Slot:
        backend = caches[self.alias]
        client = backend._cache.get_client(write=True)
        return Slot(client, *(backend.make_key(f"{self.name}:{part}:{key}") for part in ("entry", "lease")))

    def _is_due(self, entry: Entry) -> bool:
        # 1 - random() is never 0, of which there is no logarithm.
        return time.time() - entry.cost * self.beta * math.log(1 - random()) >= entry.expires

    def _refresh(self, slot: Slot, stamp: bytes, compute: Callable[[], Any]) -> None:
        """Recompute in the background, unless somebody does; when too much is on its way, a later reader will."""
        if not REFRESHES.acquire(blocking=False):
            return
        started = False
        try:
            if token := slot.claim(stamp, self.lease):
                threading.Thread(
                    target=self._compute_aside, args=(slot, token, compute), name=f"refresh-{self.name}", daemon=True
                ).start()
                started = True
        except RuntimeError as error:
            logger.warning("No thread to recompute %s: %s", slot.entry, error)
        finally:
            if not started:
                REFRESHES.release()

    def _compute_aside(self, slot: Slot, token: bytes, compute: Callable[[], Any]) -> None:
        try:
            self._store(slot, token, compute)
        except Exception:
            # The lease is left to end by itself: that is the pause before the next attempt.
            logger.exception("Recomputation of %s failed, the old value stays", slot.entry)
        finally:
            # A thread has database connections of its own, which nobody would close.
            connections.close_all()
            REFRESHES.release()

    def _compute(self, slot: Slot, token: bytes, compute: Callable[[], Any]) -> Any:
        """Compute for a reader that waits, and for those who wait with it."""
        try:
            return self._store(slot, token, compute)
        except BaseException:
            # Those who wait need not do so for the end of the lease.
            try:
                slot.release(token)
            except RedisError as error:
                logger.warning("Lease of %s not returned: %s", slot.entry, type(error).__name__)
            raise

    def _store(self, slot: Slot, token: bytes, compute: Callable[[], Any]) -> Any:
        began = time.monotonic()
        value = compute()
        found = value is not MISSING
        life = self.lifetime(found=found)
        entry = Entry(time.time() + life, time.monotonic() - began, found, value if found else None)
        try:
            if not slot.store(token, entry, life + (self.stale if found else 0)):
                logger.info("Value of %s not stored: it changed, or took longer than its lease", slot.entry)
        except RedisError as error:
            logger.warning("Value of %s not stored: %s", slot.entry, type(error).__name__)
        return value

    def lifetime(self, *, found: bool = True) -> float:
        """Return for how long a value that is stored now is fresh."""
        return (self.ttl if found else self.missing_ttl) * (1 - self.jitter * random())
