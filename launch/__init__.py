"""Scripts. The first lines of each say how to run it."""
