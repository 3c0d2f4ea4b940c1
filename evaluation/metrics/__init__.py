"""What is measured: a metric is a class in one file of this folder, and a line in the registry."""
