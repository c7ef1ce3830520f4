"""Definitions of phases scored on runs whose truth is known: ``phasetrack bench``."""
