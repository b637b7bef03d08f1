-- name: pairs_differ
-- group: contract
-- protects from: pairs whose two answers are the same text: a gradient of noise
-- severity: fail
-- needs: pairs
--
-- Equal but for blanks around them. Trimming costs fifty times as much as comparing, so only texts are trimmed that can
-- begin or end with a blank, which beside the common one may be any of Unicode's.
WITH told AS (
    SELECT iteration, pair_id, chosen_id, rejected_id, chosen[-1].content AS chosen, rejected[-1].content AS rejected FROM pairs
)
SELECT 'pairs' AS dataset, iteration, pair_id AS id, chosen_id, rejected_id FROM told
WHERE chosen_id = rejected_id OR CASE
    WHEN prefix(chosen, ' ') OR suffix(chosen, ' ') OR prefix(rejected, ' ') OR suffix(rejected, ' ')
        OR strlen(chosen) > length(chosen) OR strlen(rejected) > length(rejected) THEN trim(chosen) = trim(rejected)
    ELSE chosen = rejected END
