"""The lab: techniques of Django performance, each beside the naive way, measured on the site's own data."""
