"""Self-Rewarding Language Models as datasets you can see, question and publish (arXiv 2401.10020)."""

__version__ = "0.1.0"
