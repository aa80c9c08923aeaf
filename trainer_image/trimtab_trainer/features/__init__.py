"""What the frozen part of a model makes of each example, computed once: an epoch then costs what moves alone."""
