"""Secrets at rest: how they are encrypted, and how they come under a new key."""
