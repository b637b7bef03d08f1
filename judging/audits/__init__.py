"""SQL audits of a run: one check is one `.sql` file in `checks/`; `runner` runs them, `report` prints them."""
