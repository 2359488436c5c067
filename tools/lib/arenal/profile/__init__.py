"""The heap profile: reads what the library dumps (src/observe/profile_output.c), names the functions, and writes what other
tools read."""
