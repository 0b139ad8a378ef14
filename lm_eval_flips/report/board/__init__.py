"""Board -> the leaderboard's page and the columns it shows."""
