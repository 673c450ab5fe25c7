"""The papers' tables, on the papers' data: each row trained, evaluated and written down."""
