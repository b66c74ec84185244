"""Task lengths: which length is solved with probability one half, and how fast that doubles."""
