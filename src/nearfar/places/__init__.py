"""Where tasks run: worker processes of this computer, or a cluster of Ray. The outcome is the same."""
