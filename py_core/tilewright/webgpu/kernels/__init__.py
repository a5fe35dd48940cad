"""One module per kernel: Structure, Tuning, grid and cost of the WGSL file of the same name."""
