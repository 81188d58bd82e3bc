"""The `lakehouse` command: one module per command group; results on stdout, everything else on stderr."""
