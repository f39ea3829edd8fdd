"""Train image classifiers and look at what they have seen."""

__version__ = "0.1.0"
