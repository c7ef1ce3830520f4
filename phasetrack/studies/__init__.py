"""Many runs: sweeps, and the paper's claims on trial."""
