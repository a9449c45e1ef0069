"""Training, evaluation and export of the ICH model that the node runs."""

__version__ = "1.0.0"
