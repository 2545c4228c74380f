"""`harness doctor`: checks databases, runs, trials, files and live processes for consistency, and repairs them."""
