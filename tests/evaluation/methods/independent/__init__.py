"""The drawing methods against a second implementation, written from the papers and the authors' published equations
by someone who had not read the first. It shares no line with `evaluation.methods`: it reads the authors' files itself."""
