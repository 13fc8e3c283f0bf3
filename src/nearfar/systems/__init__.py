"""What is fitted to a machine, and how it decides: named systems, a TOML file each, and what they are made of."""
