"""From what label files say to one data set: file names, EXIF frames, defects and classes, settled once for every format."""
