"""What a thief could try."""
