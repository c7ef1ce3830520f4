"""The command line: parse, call phasetrack, render. No mathematics."""
