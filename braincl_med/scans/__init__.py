"""A hospital's own scans: files become pixels, folders become a checked, split list of them."""
