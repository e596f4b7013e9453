"""An engine for debiasctl's sweeps."""
