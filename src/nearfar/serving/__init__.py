"""The logbook by HTTP: an interface for programs, and pages for people."""
