-- name: counts_complete
-- group: contract
-- protects from: answers and judgements that went missing: every kept prompt has N candidates, each with its judgements
-- severity: fail
-- needs: dataset_versions, expected_counts
-- uses: prompts, candidates, judgements
--
-- What was asked for is in the manifests; for imported data, what most prompts (candidates) have.
WITH answers AS (
    SELECT iteration, prompt_id, coalesce(n, 0) AS n FROM prompts
    LEFT JOIN (SELECT iteration, prompt_id, count(*) AS n FROM candidates GROUP BY ALL) USING (iteration, prompt_id)
    WHERE kept AND iteration IN (SELECT DISTINCT iteration FROM candidates)
), verdicts AS (
    SELECT iteration, candidate_id, coalesce(n, 0) AS n FROM candidates
    LEFT JOIN (SELECT iteration, candidate_id, count(*) AS n FROM judgements GROUP BY ALL) USING (iteration, candidate_id)
    WHERE iteration IN (SELECT DISTINCT iteration FROM judgements)
), usual AS (
    SELECT iteration, coalesce(any_value(n_candidates), (SELECT mode(n) FROM answers a WHERE a.iteration = e.iteration)) AS n_candidates,
        coalesce(any_value(n_judgements), (SELECT mode(n) FROM verdicts v WHERE v.iteration = e.iteration)) AS n_judgements
    FROM expected_counts e GROUP BY iteration
)
SELECT 'prompts' AS dataset, iteration, prompt_id AS id, 'candidates' AS of, n AS found, n_candidates AS expected
FROM answers JOIN usual USING (iteration) WHERE n <> n_candidates
UNION ALL
SELECT 'candidates', iteration, candidate_id, 'judgements', n, n_judgements
FROM verdicts JOIN usual USING (iteration) WHERE n <> n_judgements
