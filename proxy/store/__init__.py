"""REMEMBER: SQL and object storage live here and nowhere else.

Everything but `database` and `lock` is plain functions of a transaction, `fn(tx, …)`, which
`Database.write` runs in its one writer thread and `Database.read` in a reader's. A function may be
run again from the start when PostgreSQL asks for it, so it changes nothing but the database.
"""
