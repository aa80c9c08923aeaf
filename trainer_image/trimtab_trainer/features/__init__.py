"""What a frozen trunk makes of each example, computed once: an epoch of headOnly then costs the head alone."""
