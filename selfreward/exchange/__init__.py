"""Rows in and out: import of users' files, export, and the forms that other trainers read."""
