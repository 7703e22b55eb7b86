"""What an auditor can find out about a vault: its soundness, raw scans in it, and how much its cues give away."""
