"""The names of the files in a run directory that several modules read or write."""

CONFIG, SUMMARY = "config.json", "summary.json"
HISTORY = "history.jsonl"
HINDSIGHT = "hindsight.jsonl"  # the states that were read again at the end, written by the tracker
LOCK = ".lock"
