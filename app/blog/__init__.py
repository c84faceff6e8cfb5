"""The magazine: authors, posts, tags and comments."""
