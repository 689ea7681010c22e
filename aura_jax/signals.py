"""The signals that ask a process to stop."""

import signal

# Ctrl-C, a scheduler's end, a closed terminal and Slurm's warning. Windows lacks the last two.
STOPS = frozenset(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
