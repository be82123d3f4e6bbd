"""A Ray-distributed processor of large astronomical surveys."""

__version__ = "0.1.0"
