"""What people look at: tables for a terminal, which the caller prints; figures and pages later."""
