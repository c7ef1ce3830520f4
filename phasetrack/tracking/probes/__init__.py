"""From Snapshots to readings."""
