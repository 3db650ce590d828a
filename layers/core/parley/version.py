"""The version, kept inside the package: on Lambda the package is copied, so there is no metadata to ask."""

__version__ = "0.1.0"
