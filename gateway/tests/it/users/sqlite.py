"""Runs statements (argv[2]) on the SQLite file argv[1] and prints what the last one gives, a row a line."""

import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1])
rows = []
for statement in filter(str.strip, sys.argv[2].split(";")):
    rows = connection.execute(statement).fetchall()
connection.commit()
for row in rows:
    print("|".join(str(value) for value in row))
