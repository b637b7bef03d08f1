-- name: pairs_differ
-- group: contract
-- protects from: pairs whose two answers are the same text: a gradient of noise
-- severity: fail
-- needs: pairs
SELECT 'pairs' AS dataset, iteration, pair_id AS id, chosen_id, rejected_id FROM pairs
WHERE chosen_id = rejected_id OR trim(chosen[-1].content) = trim(rejected[-1].content)
