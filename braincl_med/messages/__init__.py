"""What the server asks and what hospitals answer."""
