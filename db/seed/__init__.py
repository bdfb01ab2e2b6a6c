"""Development data: rows that later work has something to do with, the same each time and twice no more than once."""

from db.seed.loading import Seeded as Seeded
from db.seed.loading import seed as seed
