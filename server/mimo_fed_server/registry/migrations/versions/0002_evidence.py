"""The evidence of a release's round, by its digest; releases from before have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. It refers to `blob` by value: SQLite adds no constraint to a table that has rows."""
    op.add_column("release", sa.Column("evidence_digest", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop it; the evidence itself stays among the blobs."""
    op.drop_column("release", "evidence_digest")
