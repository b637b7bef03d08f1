"""Rows in and out: import of people's files, export, the forms that other trainers read."""
