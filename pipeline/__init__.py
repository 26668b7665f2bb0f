"""From photos and labels to a detector that can be trusted on the device it ships on."""

import os

__version__ = "0.1.0"

# Pydantic looks for plugins by reading the metadata of every installed package, which takes a fifth of the time of a run with
# nothing to do. It reads this when the first model is made.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
