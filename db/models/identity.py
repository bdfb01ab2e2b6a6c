"""Who there is: tenants, their users, sessions and keys; operators of this installation; regions."""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from sqlalchemy import BigInteger, Computed, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped

from db.models.base import (
    EMAIL,
    SLUG,
    Base,
    Created,
    External,
    Json,
    JsonList,
    Keyed,
    SoftDeleted,
    Tenanted,
    Touched,
    Versioned,
    column,
    one_of,
    reference,
    words,
)


class Tenant(Keyed, Touched, SoftDeleted, Base):
    """An organisation whose rows nobody else sees; a product with one alone uses the default tenant."""

    __tablename__ = "tenants"
    __table_args__ = (
        Index("tenants_slug_key", "slug", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("tenants_status_idx", "status"),
        Index("tenants_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    name: Mapped[str] = words(255, least=1)
    slug: Mapped[str] = column(check=SLUG)
    status: Mapped[str] = one_of("active", "suspended", "deleted", default="active")
    plan_type: Mapped[str] = one_of("free", "starter", "pro", "enterprise", default="free")
    max_agents: Mapped[int | None] = column(check="{0} >= 0")
    max_daily_requests: Mapped[int | None] = column(check="{0} >= 0")
    max_monthly_tokens: Mapped[int | None] = column(BigInteger, check="{0} >= 0")
    contact_email: Mapped[str | None] = column(check=EMAIL)
    contact_name: Mapped[str | None] = words(255)
    settings: Mapped[Json] = column(default="'{}'")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class User(Keyed, Tenanted, External, Touched, SoftDeleted, Versioned, Base):
    """A product's user: owns personas, talks to agents, holds keys. Not an operator of this installation."""

    __tablename__ = "users"
    __table_args__ = (
        Index("users_email_key", "tenant_id", "email", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index(
            "users_username_key",
            "tenant_id",
            "username",
            unique=True,
            postgresql_where=text("username IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index(
            "users_external_id_key",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index("users_role_idx", "tenant_id", "role"),
        Index("users_status_idx", "tenant_id", "status"),
        Index("users_active_idx", "is_active", "last_active_at"),
        Index("users_auth_external_idx", "auth_provider", "auth_external_id"),
        Index("users_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    email: Mapped[str] = column(check=EMAIL, comment="Unique in the tenant among users that are not deleted")
    username: Mapped[str | None] = words(100, least=1)
    name: Mapped[str | None] = words(255, comment="The full name as the product shows it")
    first_name: Mapped[str | None] = words(255)
    last_name: Mapped[str | None] = words(255)
    image: Mapped[str | None] = column(comment="Address of a picture")
    password_hash: Mapped[str | None] = words(255, comment="Of a memory-hard function; none for who logs in elsewhere")
    role: Mapped[str] = one_of("admin", "user", "viewer", default="user")
    permissions: Mapped[JsonList] = column(default="'[]'", check="jsonb_typeof({0}) = 'array'")
    status: Mapped[str] = one_of("active", "inactive", "suspended", default="active")
    is_active: Mapped[bool] = column(Computed("status = 'active'", persisted=True), comment="What status says")
    auth_provider: Mapped[str] = words(50, least=1, default="local")
    auth_external_id: Mapped[str | None] = words(255)
    preferences: Mapped[Json] = column(default="'{}'")
    email_verified_at: Mapped[datetime | None] = column()
    last_login_at: Mapped[datetime | None] = column(comment="Written by whoever signs the user in")
    last_active_at: Mapped[datetime] = column(
        default="now()", comment="The last activity of a session, to the minute; kept by trigger"
    )
    last_used_at: Mapped[datetime | None] = column(comment="Last access by a key; kept by trigger on them")


class Session(Keyed, Tenanted, Created, Base):
    """A token that a product gave out, by its hash: to look up, to take back, to clean up once it has expired."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "token_hash"), Index(None, "expires_at"))

    user_id: Mapped[UUID] = reference("identity.users")
    token_hash: Mapped[str] = words(255, least=1)
    expires_at: Mapped[datetime] = column()


class UserSession(Keyed, Tenanted, Touched, Versioned, Base):
    """A user's time with the product, from sign-in to its end."""

    __tablename__ = "user_sessions"
    __table_args__ = (Index("user_sessions_status_idx", "tenant_id", "status"), Index(None, "ended_at"))

    user_id: Mapped[UUID] = reference("identity.users")
    session_type: Mapped[str] = words(100, least=1, default="interactive")
    session_context: Mapped[Json] = column(default="'{}'")
    status: Mapped[str] = one_of("active", "ended", "expired", default="active")
    started_at: Mapped[datetime] = column(default="now()")
    ended_at: Mapped[datetime | None] = column(check="{0} >= started_at")


class SessionActivity(Keyed, Tenanted, Created, Base):
    """One thing that a user did in a session."""

    __tablename__ = "session_activities"
    __table_args__ = (Index(None, "tenant_id", "created_at"),)

    user_session_id: Mapped[UUID] = reference("identity.user_sessions")
    activity_type: Mapped[str] = words(100, least=1)
    details: Mapped[Json] = column(default="'{}'")


class ApiKey(Keyed, Tenanted, Touched, Base):
    """A key by which programs come in: kept as a keyed hash, shown by its prefix."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("key_hash"),
        Index("api_keys_status_idx", "tenant_id", "status"),
        Index("api_keys_status_expires_at_idx", "status", "expires_at"),
    )

    user_id: Mapped[UUID | None] = reference("identity.users")
    name: Mapped[str] = words(255, least=1)
    key_hash: Mapped[str] = words(255, least=32)
    key_prefix: Mapped[str] = words(20, least=4, comment="What may be shown of the key")
    scopes: Mapped[JsonList] = column(default="'[]'", check="jsonb_typeof({0}) = 'array'")
    status: Mapped[str] = one_of("active", "revoked", "expired", default="active")
    expires_at: Mapped[datetime | None] = column()
    last_used_at: Mapped[datetime | None] = column(comment="When it last opened a door; written by whoever looks it up")
    revoked_at: Mapped[datetime | None] = column(check="({0} IS NOT NULL) = (status = 'revoked')")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class Operator(Keyed, Touched, Base):
    """Who may use the console of this installation, across tenants; no product's own admin is one."""

    __tablename__ = "operators"
    __table_args__ = (UniqueConstraint("email"),)

    email: Mapped[str] = column(check=EMAIL)
    name: Mapped[str | None] = words(255)
    password_hash: Mapped[str] = words(255, least=1)
    role: Mapped[str] = one_of("viewer", "operator", "admin", default="viewer")
    is_active: Mapped[bool] = column(default="true")
    last_login_at: Mapped[datetime | None] = column()
    last_login_ip: Mapped[IPv4Address | IPv6Address | None] = column(INET)


class Region(Keyed, Touched, Base):
    """A place where tenants' data may stand."""

    __tablename__ = "regions"
    __table_args__ = (UniqueConstraint("code"),)

    code: Mapped[str] = column(check=SLUG)
    name: Mapped[str] = words(255, least=1)
    status: Mapped[str] = one_of("active", "draining", "disabled", default="active")
    endpoint: Mapped[str | None] = words(2000)
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class TenantRegion(Keyed, Tenanted, Touched, Base):
    """Where a tenant's data stands: in one primary region, and in those that follow it."""

    __tablename__ = "tenant_regions"
    __table_args__ = (
        UniqueConstraint("tenant_id", "region_id"),
        Index("tenant_regions_primary_key", "tenant_id", unique=True, postgresql_where=text("is_primary")),
    )

    region_id: Mapped[UUID] = reference("identity.regions", shared=True, on_delete="RESTRICT")
    is_primary: Mapped[bool] = column(default="false")
    residency: Mapped[str] = one_of("required", "preferred", default="preferred")
    status: Mapped[str] = one_of("provisioning", "active", "draining", "removed", default="active")


class ReplicationStatus(Keyed, Tenanted, Touched, Base):
    """How far a tenant's data has come from one region to another."""

    __tablename__ = "replication_status"
    __table_args__ = (UniqueConstraint("tenant_id", "source_region_id", "target_region_id"),)

    source_region_id: Mapped[UUID] = reference("identity.regions", shared=True, on_delete="RESTRICT")
    target_region_id: Mapped[UUID] = reference("identity.regions", shared=True, on_delete="RESTRICT")
    status: Mapped[str] = one_of("syncing", "current", "lagging", "failed", default="syncing")
    lag_seconds: Mapped[int | None] = column(check="{0} >= 0")
    last_synced_at: Mapped[datetime | None] = column()
    error_message: Mapped[str | None] = column()


class CrossRegionSyncLog(Keyed, Tenanted, Created, Base):
    """One run that carried a tenant's rows from one region to another."""

    __tablename__ = "cross_region_sync_logs"
    __table_args__ = (Index(None, "tenant_id", "started_at"),)

    source_region_id: Mapped[UUID] = reference("identity.regions", shared=True, on_delete="RESTRICT")
    target_region_id: Mapped[UUID] = reference("identity.regions", shared=True, on_delete="RESTRICT")
    table_name: Mapped[str] = words(100, least=1)
    row_count: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0")
    byte_count: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0")
    status: Mapped[str] = one_of("running", "success", "failure", default="running")
    error_message: Mapped[str | None] = column()
    started_at: Mapped[datetime] = column(default="now()")
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at")
