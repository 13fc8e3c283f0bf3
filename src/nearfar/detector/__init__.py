"""Everything that was fitted to one machine."""
