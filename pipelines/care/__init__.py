"""Care of the database, across tenants: what is kept in order while all else goes on."""
