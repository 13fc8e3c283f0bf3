"""Long recordings are cut into windows."""
