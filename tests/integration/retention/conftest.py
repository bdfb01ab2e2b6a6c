"""One database for each module's tests, and two tenants of a test's own in it, as for tests of the data model."""

from tests.integration.data_model.conftest import ours, shared, theirs

__all__ = ["ours", "shared", "theirs"]
