"""The crash proof: real processes, killed with SIGKILL, judged by the simulator's own ledger."""
