"""The package that a team submits to the challenge: its content, writing one, checking one."""
