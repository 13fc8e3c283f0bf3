"""Many machines, many settings, and one number with its scope."""
