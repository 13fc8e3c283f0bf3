"""What speaks for a verdict: maps, spectra, words, and normal clips to compare with."""
