"""Labels and scores become numbers. Knows nothing of audio, encoders or back ends."""
