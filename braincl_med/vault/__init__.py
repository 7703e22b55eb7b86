"""What a hospital keeps on disk."""
