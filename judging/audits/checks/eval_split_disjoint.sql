-- name: eval_split_disjoint
-- group: contract
-- protects from: measuring the judge, or the answers, on prompts that were trained on
-- severity: fail
-- needs: eft
-- uses: ift, pairs
--
-- Equal but for case, blanks and line ends, or of the same EFT prompt.
WITH asked AS (
    SELECT 'ift' AS dataset, NULL::BIGINT AS iteration, ift_id AS id, NULL::VARCHAR AS prompt_id, prompt FROM ift
    UNION ALL SELECT 'eft', NULL, eft_id, prompt_id, prompt FROM eft WHERE split = 'train' AND accepted
    UNION ALL SELECT 'pairs', iteration, pair_id, NULL, prompt[-1].content FROM pairs
), trained AS (
    SELECT *, lower(replace(replace(prompt, ' ', ''), chr(10), '')) AS text FROM asked
), held_out AS (
    SELECT DISTINCT prompt_id, lower(replace(replace(prompt, ' ', ''), chr(10), '')) AS text FROM eft WHERE split = 'eval'
)
SELECT t.dataset, t.iteration, t.id, h.prompt_id AS held_out_prompt_id, t.prompt FROM trained t JOIN held_out h USING (text)
UNION ALL
SELECT t.dataset, t.iteration, t.id, h.prompt_id, t.prompt FROM trained t JOIN held_out h USING (prompt_id)
WHERE t.text <> h.text
