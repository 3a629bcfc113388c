"""known results are forgotten by their last use

Revision: 0010, after 0009
"""

from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column('known_results', 'created_at', new_column_name='used_at')


def downgrade() -> None:
    op.alter_column('known_results', 'used_at', new_column_name='created_at')
