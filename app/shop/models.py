"""Products."""

from decimal import Decimal
from typing import Self

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone


class ProductQuerySet(models.QuerySet["Product"]):
    """Which products there are for whom, and what a page needs of them."""

    def on_sale(self) -> Self:
        """Keep what the public may see."""
        return self.filter(is_active=True)

    def for_cards(self) -> Self:
        """Leave behind the long text, which no list shows."""
        return self.defer("description")

    def hottest_first(self) -> Self:
        """Order by the views of the last weeks; those that nobody has looked at since long, by the number of views."""
        return self.order_by("-popularity", "-views", "-id")


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=100, unique=True)
    summary = models.CharField(max_length=200, blank=True)
    description = models.TextField(blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    stock = models.PositiveIntegerField(default=0)
    is_active = models.BooleanField("on sale", default=True)
    views = models.PositiveBigIntegerField(default=0, editable=False)
    # Of the views, those of the last weeks count most (shop/counters.py). The release before does not know the column.
    popularity = models.FloatField(default=0, db_default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(price__gt=0), name="shop_product_has_price"),
        ]
        indexes = [
            # The public list and the hot products; what is not on sale is in neither.
            models.Index(
                F("created_at").desc(), F("id").desc(), condition=Q(is_active=True), name="shop_product_newest"
            ),
            models.Index(
                *(F(field).desc() for field in ("popularity", "views", "id")),
                condition=Q(is_active=True),
                name="shop_product_popular",
            ),
            # Of the release before, which serves while this one is deployed. The next one drops it.
            models.Index(F("views").desc(), F("id").desc(), condition=Q(is_active=True), name="shop_product_hottest"),
            # The admin's list, which has them all.
            models.Index(F("created_at").desc(), F("id").desc(), name="shop_product_created"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the product."""
        return reverse("shop:product", args=[self.slug])

    @property
    def cover(self) -> int:
        """Return the number of the drawing that stands for a picture, the same at every visit."""
        return self.pk % 8


class ViewFlush(models.Model):
    """A batch of views that has been added to the products: adding it again is refused by its key."""

    batch_id = models.CharField(max_length=32, primary_key=True)
    flushed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"views of {self.flushed_at:%Y-%m-%d %H:%M:%S}"
