"""Keys and passwords, as the application encrypted them: AES-256-GCM, with the row as associated data (000, 003)."""

from uuid import UUID

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped

from db.models.base import Base, External, Keyed, Tenanted, Touched, column, one_of, reference, words

_KEY = "Of the key ring's key that opens it"
# A nonce and a tag alone take 28 bytes, 38 characters of base64.
_CIPHERTEXT = "length({0}) BETWEEN 38 AND 100000"


class Secret(Keyed, Tenanted, Touched, Base):
    """A secret of a persona's, or of the whole tenant's where it names none."""

    __tablename__ = "secrets"
    __table_args__ = (
        UniqueConstraint(
            "tenant_id",
            "persona_id",
            "secret_type",
            "key_name",
            name="secrets_key_name_key",
            postgresql_nulls_not_distinct=True,
        ),
        Index(None, "key_id"),
    )

    persona_id: Mapped[UUID | None] = reference("assistants.personas", comment="None: of the whole tenant")
    secret_type: Mapped[str] = one_of("llm_provider_key", "email_imap", "email_smtp", "other")
    key_name: Mapped[str] = words(255, least=1, comment="What it is called, as openai_api_key")
    encrypted_value: Mapped[str] = column(check=_CIPHERTEXT, comment="AES-256-GCM ciphertext, made by the application")
    key_id: Mapped[str] = words(64, least=1, comment=_KEY)


class ProviderKey(Keyed, Tenanted, External, Touched, Base):
    """A user's own key of a provider's service."""

    __tablename__ = "provider_keys"
    __table_args__ = (
        UniqueConstraint("user_id", "service", "tenant_id"),
        Index(
            "provider_keys_external_id_key",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index(None, "key_id"),
    )

    user_id: Mapped[UUID] = reference("identity.users")
    service: Mapped[str] = one_of("elevenlabs", "openai", "telegram", "anthropic")
    encrypted_key: Mapped[str] = column(check=_CIPHERTEXT, comment="AES-256-GCM ciphertext, made by the application")
    key_id: Mapped[str] = words(64, least=1, comment=_KEY)
    last_4_chars: Mapped[str | None] = words(10, comment="What may be shown of the key")
