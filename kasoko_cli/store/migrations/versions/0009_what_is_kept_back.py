"""What duties keep back of winnings and of what is sent, and the rules that each settlement is under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # By hand, since a CHECK that comes with its column needs no new table on SQLite: a million payouts stay in place.
    op.execute("ALTER TABLE settlements ADD COLUMN taxed_cents BIGINT DEFAULT '0' NOT NULL")
    op.execute(
        "ALTER TABLE settlements ADD COLUMN tax_cents BIGINT DEFAULT '0' NOT NULL"
        " CONSTRAINT ck_settlements_tax_is_part_of_the_payouts CHECK (tax_cents = 0 OR (tax_cents > 0 AND tax_cents <= payouts_cents))"
    )
    op.add_column("settlements", sa.Column("duties", sa.Text(), nullable=True))
    op.execute(
        "ALTER TABLE payouts ADD COLUMN withheld_cents BIGINT DEFAULT '0' NOT NULL"
        " CONSTRAINT ck_payouts_withheld_is_left_of_the_amount"
        " CHECK (withheld_cents = 0 OR (withheld_cents > 0 AND wire_cents + withheld_cents <= amount_cents))"
    )


def downgrade() -> None:
    op.drop_column("payouts", "withheld_cents")
    op.drop_column("settlements", "duties")
    op.drop_column("settlements", "tax_cents")
    op.drop_column("settlements", "taxed_cents")
