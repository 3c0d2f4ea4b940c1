"""Methods that draw a person's face, one file each, all asked the same: references, prompts and seeds."""
