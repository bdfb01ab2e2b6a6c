"""Alembic's folder: each migration is a numbered pair of `.sql` files, marked pre- or post-deploy."""
