"""Who this installation is."""

from sqlalchemy.orm import Mapped

from db.models.base import Base, Created, Keyed, column


class Installation(Keyed, Created, Base):
    """Who this installation is: its one row. Stores that it writes to carry the id."""

    __tablename__ = "installation"

    is_only: Mapped[bool] = column(default="true", check="{0}", unique=True, comment="Makes the row the only one")
