"""The Python API: `import studies` in scripts and notebooks.

A command runs in a process of its own, started by command.py: the same `harness` with the same checks. So a notebook's
kernel stays free of the harness's processes, signal handlers and memory, and whatever is called from Python can be
repeated on the command line.
"""
