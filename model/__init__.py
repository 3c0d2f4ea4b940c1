"""Face-MakeUp as a diffusers model: what conditions it, what is trained, foreign checkpoints, a pipeline."""
