"""What condensing a persona's memory saves, and what it costs in answers: free texts, questions written by hand."""
