"""The health of a data set: what is wrong with its labels, images and splits, how sure that is, and what to do about it."""
