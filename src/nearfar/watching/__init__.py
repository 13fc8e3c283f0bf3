"""Detectors hear machines that run, for months: where sound comes from, what is made of it, and whom it is told."""
