"""What is kept for how long, and what is let go."""
