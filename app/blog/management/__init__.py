"""Management of the blog application."""
