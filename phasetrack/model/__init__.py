"""The two-layer network, the clusters of its data, and its loss."""
