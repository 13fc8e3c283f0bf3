"""A detector hears hours."""
