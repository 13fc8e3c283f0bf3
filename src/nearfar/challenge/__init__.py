"""The files of the challenge."""
