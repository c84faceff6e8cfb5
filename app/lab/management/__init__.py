"""Management of the lab."""
