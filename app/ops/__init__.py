"""What operating the site needs: probes, checks, the cache backend, housekeeping."""
