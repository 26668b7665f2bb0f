"""From photos and labels to a detector that can be trusted on the device it ships on."""

__version__ = "0.1.0"
