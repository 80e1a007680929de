"""Encoding on a Ray cluster: `encode` is what the driver does, `workers` runs there. Needs the ``ray`` extra."""
