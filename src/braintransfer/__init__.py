"""Where should a network learn before it is asked to segment lesions and anatomy on brain MRI? The study's helpers."""

__version__ = "0.1.0"
