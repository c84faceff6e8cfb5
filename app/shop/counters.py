"""Counts of product views: collected in Redis, flushed to PostgreSQL in bulk.

A view costs one HINCRBY instead of an UPDATE, which would lock the row, write a new version of it and wait for
the disk. The counts are in the instance that Celery uses: it evicts nothing and writes its data to disk, where that of
the cache may drop a key at any time. When it cannot be reached, a view is not counted, and the page comes all the same.

A flush first renames the hash, so that later views go into a new one, and gives it an id. The id is inserted in the
transaction of the UPDATE: a flush that was cut anywhere is finished by the next one, and none is counted twice.

A flush adds the views to the popularity of a product as well, which forgets: a view counts half as much after
`HALF_LIFE`. No row is touched to forget. The popularity is the logarithm of the sum of all views, each multiplied by e
for every `HALF_LIFE / ln 2` since 2026 began: beside new views the old ones are less, and the order stays what it is.
"""

import logging
import math
from datetime import timedelta
from uuid import uuid4

import redis
from django.conf import settings
from django.db import connection, transaction
from redis.exceptions import RedisError

from ops.pausing import PausingRedis
from shop.models import ViewFlush

logger = logging.getLogger(__name__)

KEY = "slipway:product-views"
# A field beside the products' ids that names the batch.
BATCH_ID = "batch"

# Make a batch of what was collected, unless nothing was, or a batch is there that was not finished.
TAKE = """
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('RENAMENX', KEYS[1], KEYS[2]) == 1 then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
"""
# Remove the batch, if it still is the one that was flushed.
DROP = "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('DEL', KEYS[1]) end return 0"

HALF_LIFE = timedelta(days=7)
# The time since 2026 began, in units of HALF_LIFE / ln 2.
AGE = f"(extract(epoch FROM now() - '2026-01-01Z'::timestamptz)::float8 / {HALF_LIFE.total_seconds() / math.log(2)})"

# Rows are locked in the order of their ids, as by whoever else updates several.
ADD = """
UPDATE shop_product SET
    views = shop_product.views + batch.views,
    -- PostgreSQL refuses to compute what is too small for a number: e to the power of -700 is nothing beside a view.
    popularity = AGE + ln(batch.views + exp(greatest(shop_product.popularity - AGE, -700)))
FROM (
    SELECT product.id, counted.views
    FROM unnest(%s::bigint[], %s::bigint[]) AS counted(id, views)
    JOIN shop_product product ON product.id = counted.id
    ORDER BY product.id
    FOR UPDATE OF product
) batch
WHERE shop_product.id = batch.id
""".replace("AGE", AGE)

_pool = redis.ConnectionPool.from_url(
    settings.CELERY_RESULT_BACKEND, decode_responses=True, **settings.PAGE_REDIS_OPTIONS
)


def _client() -> redis.Redis:
    return PausingRedis(connection_pool=_pool)


def count_view(*, product_id: int) -> None:
    """Count a view of a product."""
    try:
        _client().hincrby(KEY, str(product_id), 1)
    except RedisError as error:
        logger.warning("View not counted: %s", type(error).__name__)


def flush() -> int:
    """Add the collected views to the products by one UPDATE; return the number of products that had any.

    Raises:
        RedisError: Redis cannot be reached. What was collected stays there.
    """
    client = _client()
    client.eval(TAKE, 2, KEY, f"{KEY}:batch", BATCH_ID, uuid4().hex)
    # Empty, too, when another flush has just finished it.
    batch = client.hgetall(f"{KEY}:batch")
    if not batch:
        return 0
    batch_id = batch.pop(BATCH_ID)
    with transaction.atomic():
        # A second flush of the same batch waits here for the first one's COMMIT, and then does nothing.
        _, created = ViewFlush.objects.get_or_create(batch_id=batch_id)
        if created:
            with connection.cursor() as cursor:
                cursor.execute(ADD, [list(map(int, batch)), list(map(int, batch.values()))])
    client.eval(DROP, 1, f"{KEY}:batch", BATCH_ID, batch_id)
    return len(batch) if created else 0
