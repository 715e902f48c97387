"""The version of this package: that of the interface it was written for, dbpool.h."""

__version__ = "0.1.0"
