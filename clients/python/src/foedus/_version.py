"""Version of the package; the one that a wheel has is written when it is made."""

__version__ = "0"
