"""Pages: one file each, which loads nothing from a network."""
