-- name: system_turn_lost
-- group: training
-- protects from: system turns that the chat template drops or refuses, so that the model never sees them
-- severity: fail
-- needs: template_facts
-- uses: ift, pairs
WITH given AS (
    SELECT 'ift' AS dataset, NULL::BIGINT AS iteration, ift_id AS id, messages FROM ift
    UNION ALL SELECT 'pairs', iteration, pair_id, prompt FROM pairs
)
SELECT dataset, iteration, id, model, error FROM given, template_facts
WHERE NOT keeps_system AND list_contains([m.role for m in messages], 'system')
