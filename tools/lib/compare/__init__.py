"""What tools/compare consists of. Modules are imported by their full names, `from compare.results import Run`: one is
called numbers, as a module of Python's own library is, and must not stand in its way."""
