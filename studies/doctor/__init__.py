"""`harness doctor`: compares databases, runs, trials, files and live processes, and mends what disagrees."""
