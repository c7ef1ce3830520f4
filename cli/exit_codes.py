"""Exit codes: 0 success, 1 the run failed, 2 bad usage; and a shell's codes for signals."""

SUCCESS, FAILED, BAD_USAGE = 0, 1, 2
# After SIGINT (Ctrl-C) and SIGTERM.
INTERRUPTED, TERMINATED = 130, 143
STOPPED = {"interrupted": INTERRUPTED, "terminated": TERMINATED}
