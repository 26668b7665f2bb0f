"""Work on pixels: what preprocess and augment do to an image and its boxes, and what they remember of it."""
