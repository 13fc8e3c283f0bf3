"""What was recorded, and whether it is any good: clips, audio, microphones, data sets."""
