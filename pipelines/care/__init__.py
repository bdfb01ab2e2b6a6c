"""Care of the installation: what nobody asked for and all need."""
