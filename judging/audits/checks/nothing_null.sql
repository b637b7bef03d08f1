-- name: nothing_null
-- group: contract
-- protects from: rows with a hole where a text, an id or a count must be
-- severity: fail
-- needs: null_cells
SELECT * FROM null_cells
