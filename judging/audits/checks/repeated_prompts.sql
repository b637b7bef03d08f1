-- name: repeated_prompts
-- group: data
-- protects from: prompts that are trained on twice, within a dataset or across datasets and iterations
-- severity: warn
-- needs: configured
-- uses: ift, eft, prompts
--
-- Equal but for case, blanks and line ends. A hash of that says first which prompts can be repeated: few.
WITH asked AS (
    SELECT 'ift' AS dataset, NULL::BIGINT AS iteration, ift_id AS id, prompt FROM ift
    UNION ALL SELECT 'eft', NULL, prompt_id, any_value(prompt) FROM eft WHERE split = 'train' AND accepted GROUP BY prompt_id
    UNION ALL SELECT 'prompts', iteration, prompt_id, prompt FROM prompts WHERE kept
), keyed AS MATERIALIZED (
    SELECT *, hash(lower(replace(replace(prompt, ' ', ''), chr(10), ''))) AS key FROM asked
)
SELECT dataset, iteration, id, prompt, first_value(id) OVER same AS first_id
FROM keyed WHERE key IN (SELECT key FROM keyed GROUP BY key HAVING count(*) > 1)
WINDOW same AS (PARTITION BY lower(replace(replace(prompt, ' ', ''), chr(10), '')) ORDER BY dataset, iteration, id)
QUALIFY row_number() OVER same > 1
