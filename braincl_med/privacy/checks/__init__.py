"""What an audit looks for, a kind of thing a file."""
