"""Exit codes: 0 success, 1 failed, 2 bad usage, 3 not written; and a shell's codes for signals."""

SUCCESS, FAILED, BAD_USAGE = 0, 1, 2
# The run came to its end, and its history or summary could not be written whole.
UNWRITTEN = 3
# After SIGINT (Ctrl-C) and SIGTERM.
INTERRUPTED, TERMINATED = 130, 143
STOPPED = {"interrupted": INTERRUPTED, "terminated": TERMINATED}
