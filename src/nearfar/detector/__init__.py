"""Everything that was fitted to one machine: how it is fitted, what it says of a recording, its file format."""
