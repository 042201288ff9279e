"""The registry's migrations, run by Alembic."""
