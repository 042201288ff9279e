"""Releases, channels, rounds and blobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mimo_fed_server.registry.tables import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "blob",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "release",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "digest", sa.String(64), sa.ForeignKey("blob.digest", name="fk_release_digest"), nullable=False
        ),
        sa.Column("base_fingerprint", sa.String(64), nullable=False),
        sa.Column("basis_epoch", sa.Integer, nullable=False),
        sa.Column("spec_digest", sa.String(64), nullable=False),
        sa.Column("round_id", sa.String(128), nullable=False),
        sa.Column("parent", sa.BigInteger, nullable=False),
        sa.Column("quorum_digest", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("round_id", "digest", name="uq_release_round_id_digest"),
    )
    op.create_index("ix_release_digest", "release", ["digest"])
    op.create_table(
        "channel",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column(
            "number",
            sa.BigInteger,
            sa.ForeignKey("release.number", name="fk_channel_number"),
            nullable=False,
        ),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "channel_history",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column(
            "number",
            sa.BigInteger,
            sa.ForeignKey("release.number", name="fk_channel_history_number"),
            nullable=False,
        ),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("name", "number", name="uq_channel_history_name_number"),
    )
    op.create_table(
        "round",
        sa.Column("round_id", sa.String(128), primary_key=True),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("round", "channel_history", "channel", "release", "blob"):
        op.drop_table(name)
