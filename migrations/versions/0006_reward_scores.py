"""reward scores

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('reward_scores',
    sa.Column('model_digest', sa.String(), nullable=False),
    sa.Column('content_sha256', sa.String(), nullable=False),
    sa.Column('score', sa.Double(), nullable=True),
    sa.PrimaryKeyConstraint('model_digest', 'content_sha256', name=op.f('pk_reward_scores'))
    )


def downgrade() -> None:
    op.drop_table('reward_scores')
