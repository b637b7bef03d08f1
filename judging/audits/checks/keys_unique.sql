-- name: keys_unique
-- group: contract
-- protects from: rows that join twice, so that a candidate or pair counts double
-- severity: fail
-- needs: repeated_keys
SELECT dataset, iteration, id, n FROM repeated_keys
