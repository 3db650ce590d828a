"""HTTP: one module per resource. HTTP words live here and nowhere else."""
