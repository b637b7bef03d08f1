-- name: prompts_far_from_ift
-- group: data
-- protects from: generated prompts that drift away from what people ask
-- severity: warn
-- threshold: at most 0.1
-- figure: share of kept prompts with more unknown words than 99 of 100 IFT prompts, or half as long again as any; worst iteration
-- setting: fewest = 20
-- needs: ift, prompts
--
-- A word is unknown if no (other) IFT prompt has it, so that about 1 in 100 prompts like IFT's is far. With fewer than
-- $fewest IFT prompts there is nothing to compare with.
SELECT p.iteration, count(o.id) / count(*) AS figure
FROM prompts p LEFT JOIN offending o ON o.iteration = p.iteration AND o.id = p.prompt_id
WHERE p.kept AND (SELECT count(*) FROM ift) >= $fewest GROUP BY p.iteration;
WITH ift_words AS (
    SELECT DISTINCT ift_id, unnest(regexp_extract_all(lower(prompt), '[a-z0-9]+')) AS word FROM ift
), vocabulary AS (
    SELECT word, count(*) AS n FROM ift_words GROUP BY word
), own AS (
    SELECT avg((n = 1)::INT) AS unknown_share FROM ift_words JOIN vocabulary USING (word) GROUP BY ift_id
), kept_words AS (
    SELECT iteration, prompt_id, unnest(regexp_extract_all(lower(prompt), '[a-z0-9]+')) AS word
    FROM prompts WHERE kept
), kept AS (
    SELECT iteration, prompt_id, avg((n IS NULL)::INT) AS unknown_share
    FROM kept_words LEFT JOIN vocabulary USING (word) GROUP BY ALL
)
SELECT 'prompts' AS dataset, p.iteration, p.prompt_id AS id, unknown_share, length(p.prompt) AS n_chars, p.prompt
FROM prompts p LEFT JOIN kept USING (iteration, prompt_id)
WHERE p.kept AND (coalesce(unknown_share, 1) > (SELECT quantile_cont(unknown_share, 0.99) FROM own)
    OR length(p.prompt) > 1.5 * (SELECT max(length(prompt)) FROM ift))
ORDER BY unknown_share DESC NULLS FIRST, id
