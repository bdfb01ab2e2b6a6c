"""What searches by vectors find and what they cost among a million (`python -m tests.benchmarks.vectors`)."""
