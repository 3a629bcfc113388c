"""leases of training

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("fine_tuning_jobs") as table:
        table.add_column(sa.Column("run_fence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True))
    with op.batch_alter_table("job_checkpoints") as table:
        table.add_column(sa.Column("files", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("work") as table:
        table.drop_index("ix_work_subject")
        table.create_index("ix_work_subject_state", ["subject", "state"])


def downgrade() -> None:
    with op.batch_alter_table("work") as table:
        table.drop_index("ix_work_subject_state")
        table.create_index("ix_work_subject", ["subject"])
    with op.batch_alter_table("job_checkpoints") as table:
        table.drop_column("files")
    with op.batch_alter_table("fine_tuning_jobs") as table:
        table.drop_column("run_fence")
