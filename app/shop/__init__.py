"""The shop: products, the hot ones among them, and a count of their views."""
