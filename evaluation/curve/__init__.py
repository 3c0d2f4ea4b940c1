"""The evaluation's figures while a model is being trained."""
