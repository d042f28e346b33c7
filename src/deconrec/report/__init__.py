"""What a result says, for people: one HTML file, and the same leaderboard and verdict for the terminal."""
