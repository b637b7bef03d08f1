-- name: eval_split_disjoint
-- group: contract
-- protects from: measuring the judge, or the answers, on prompts that were trained on
-- severity: fail
-- needs: eft
-- uses: ift, pairs
WITH held_out AS (
    SELECT DISTINCT prompt_id, lower(trim(regexp_replace(prompt, '\s+', ' ', 'g'))) AS text FROM eft WHERE split = 'eval'
), trained AS (
    SELECT 'ift' AS dataset, NULL::BIGINT AS iteration, ift_id AS id, NULL::VARCHAR AS prompt_id, prompt FROM ift
    UNION ALL SELECT 'eft', NULL, eft_id, prompt_id, prompt FROM eft WHERE split = 'train' AND accepted
    UNION ALL SELECT 'pairs', iteration, pair_id, NULL, prompt[-1].content FROM pairs
)
SELECT t.dataset, t.iteration, t.id, h.prompt_id AS held_out_prompt_id, t.prompt
FROM trained t JOIN held_out h ON lower(trim(regexp_replace(t.prompt, '\s+', ' ', 'g'))) = h.text
UNION ALL
SELECT t.dataset, t.iteration, t.id, h.prompt_id, t.prompt FROM trained t JOIN held_out h ON t.prompt_id = h.prompt_id
WHERE lower(trim(regexp_replace(t.prompt, '\s+', ' ', 'g'))) <> h.text
