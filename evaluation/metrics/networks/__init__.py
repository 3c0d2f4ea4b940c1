"""Networks that are given as files of weights alone, in plain torch, with the names that those files use."""
