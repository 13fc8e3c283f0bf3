"""Long recordings are cut into windows: which ones, and how they are read."""
