"""What searches by words go by, and the log of searches (004)."""

from uuid import UUID

from pgvector import SparseVector
from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import ARRAY, BigInteger, ForeignKey, ForeignKeyConstraint, Identity, Index, Integer, text
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Created, Json, Keyed, column, one_of, reference, words

_TERMS = 536_870_912
# Cosine similarities are signed; what is scored by words has no upper bound.
_SCORE = "CASE strategy WHEN 'lexical' THEN {0} >= 0 AND {0} < 'Infinity' ELSE {0} BETWEEN -1 AND 1 END"


def _tenant() -> Mapped[UUID]:
    return mapped_column(ForeignKey("identity.tenants.id", ondelete="CASCADE"), primary_key=True)


class ChunkTerms(Base):
    """The terms of a chunk with their weights before their rarity is known (BM25); kept by trigger."""

    __tablename__ = "chunk_terms"
    __table_args__ = (
        ForeignKeyConstraint(
            ["chunk_id", "tenant_id"], ["knowledge.chunks.id", "knowledge.chunks.tenant_id"], ondelete="CASCADE"
        ),
        Index("chunk_terms_keys_idx", "keys", postgresql_using="gin"),
    )

    chunk_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(comment="The chunk's")
    language: Mapped[str] = column(comment="The document's, when the chunk was written")
    term_count: Mapped[int] = column(check="{0} >= 0")
    keys: Mapped[list[int]] = column(ARRAY(Integer), comment="Its terms as numbers of its tenant")
    weights: Mapped[SparseVector] = column(SPARSEVEC(_TERMS), comment="By key: frequency, saturated and normalised")


class TermStatistic(Base):
    """How many chunks of a tenant hold a term; lags behind by what stands in term_changes."""

    __tablename__ = "term_statistics"
    __table_args__ = (
        Index("term_statistics_gone_idx", "tenant_id", postgresql_where=text("chunk_count <= 0")),
        {"postgresql_with": {"fillfactor": 80}},
    )

    tenant_id: Mapped[UUID] = _tenant()
    key: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, comment="The term as a number of its tenant"
    )
    chunk_count: Mapped[int] = column()


class TermTotal(Base):
    """How many chunks and terms a tenant has in a language; lags behind by what stands in term_changes."""

    __tablename__ = "term_totals"

    tenant_id: Mapped[UUID] = _tenant()
    language: Mapped[str] = mapped_column(primary_key=True)
    chunk_count: Mapped[int] = column(BigInteger)
    term_count: Mapped[int] = column(BigInteger)


class TermChange(Base):
    """Chunks that came or went and are not counted yet: in place, all ingests of a tenant would wait for each other."""

    __tablename__ = "term_changes"
    __table_args__ = (Index("term_changes_tenant_id_idx", "tenant_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("identity.tenants.id", ondelete="CASCADE"))
    language: Mapped[str] = column()
    chunk_count: Mapped[int] = column(comment="Negative where chunks went")
    term_count: Mapped[int] = column(BigInteger, comment="Negative where chunks went")
    keys: Mapped[list[int]] = column(ARRAY(Integer), comment="The terms of these chunks")
    counts: Mapped[list[int]] = column(ARRAY(Integer), comment="By how many chunks each of them changes")


class RagQuery(Keyed, Created, Base):
    """A search that was asked, with what it found, how long it took and what its reader thought of it."""

    __tablename__ = "rag_queries"
    __table_args__ = (Index("rag_queries_tenant_id_created_at_idx", "tenant_id", text("created_at DESC")),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("identity.tenants.id", ondelete="CASCADE"), sort_order=-20)
    collection_id: Mapped[UUID | None] = reference("knowledge.collections", on_delete="SET NULL")
    query_text: Mapped[str] = words(10000, least=1)
    result_chunk_ids: Mapped[list[UUID]] = column(default="'{}'", comment="What was found, best first")
    result_scores: Mapped[list[float]] = column(
        ARRAY(REAL),
        default="'{}'",
        check="NOT {0} && '{{NaN,Infinity,-Infinity}}'",
        comment="Of each, in the same order",
    )
    top_score: Mapped[float | None] = column(REAL, check=_SCORE, comment="What the strategy goes by, of the best")
    strategy: Mapped[str] = one_of("hybrid", "vector", "lexical")
    filters: Mapped[Json] = column(default="'{}'")
    response_ms: Mapped[int] = column(check="{0} >= 0", comment="Milliseconds")
    feedback: Mapped[Json | None] = column()
