"""What was heard and what people did about it, in one database: machines, scores, events, alerts, comments."""
