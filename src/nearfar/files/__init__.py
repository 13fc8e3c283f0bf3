"""What every room stands on: files that are whole or absent, finished steps, downloads, worker processes."""
