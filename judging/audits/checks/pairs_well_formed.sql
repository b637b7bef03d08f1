-- name: pairs_well_formed
-- group: contract
-- protects from: pairs that a trainer cannot read: no messages, an empty turn, another role than it expects
-- severity: fail
-- needs: pairs
SELECT 'pairs' AS dataset, iteration, pair_id AS id, CASE
    WHEN len(prompt) = 0 OR len(chosen) = 0 OR len(rejected) = 0 THEN 'no messages'
    WHEN prompt[-1].role <> 'user' THEN 'the prompt does not end with the user'
    WHEN chosen[-1].role <> 'assistant' OR rejected[-1].role <> 'assistant' THEN 'an answer is not the assistant''s'
    ELSE 'an empty turn' END AS problem
FROM pairs
WHERE len(prompt) = 0 OR len(chosen) = 0 OR len(rejected) = 0 OR prompt[-1].role <> 'user'
    OR chosen[-1].role <> 'assistant' OR rejected[-1].role <> 'assistant'
    OR list_bool_or([NOT coalesce(regexp_matches(m.content, '\S'), false) for m in list_concat(prompt, chosen, rejected)])
