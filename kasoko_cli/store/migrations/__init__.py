"""Alembic's migrations, inside the package, so that an installed kasoko can upgrade its database."""
