"""What becomes of a tenant that is deleted."""
