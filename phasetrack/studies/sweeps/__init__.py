"""Sweeps: train each point of a grid of settings once, on this machine or on a Ray cluster."""
