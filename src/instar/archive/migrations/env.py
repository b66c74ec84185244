"""Alembic's entry: runs the migrations on the connection that `upgrade` hands over, in its transaction."""

from alembic import context

from instar.archive.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can; a kill half-way then leaves the old schema, never half of one
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
