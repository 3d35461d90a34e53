"""The long-lived process that does the machine learning, driven over stdin and stdout."""

__version__ = "0.1.0"
