"""Many runs over a grid of settings: computed once each, on this machine or on a Ray cluster."""
