"""What belongs to one paper: a module each, with the paper's claims as functions."""
