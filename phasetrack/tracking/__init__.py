"""From hooks to Snapshots, readings, phases and sinks."""
