-- name: pairs_same_prompt
-- group: contract
-- protects from: comparing answers to two different prompts, or training on texts that were not judged
-- severity: fail
-- needs: pairs, candidates
-- uses: prompts
--
-- Texts are compared by their hash: 64 bits, against which two different ones have no chance worth a second look.
WITH sides AS (
    SELECT iteration, pair_id, prompt_id, unnest([chosen_id, rejected_id]) AS candidate_id,
        unnest([hash(chosen[-1].content), hash(rejected[-1].content)]) AS told
    FROM pairs
), wrong AS (
    SELECT s.iteration, pair_id, if(c.prompt_id <> s.prompt_id, 1, 3) AS problem
    FROM sides s JOIN candidates c USING (iteration, candidate_id) WHERE c.prompt_id <> s.prompt_id OR hash(response) <> told
    UNION ALL
    SELECT iteration, pair_id, 2 FROM pairs p JOIN prompts q USING (iteration, prompt_id)
    WHERE p.prompt[-1].content <> q.prompt
)
SELECT 'pairs' AS dataset, iteration, pair_id AS id, ['an answer belongs to another prompt',
    'the prompt is not the one of that id', 'a text is not the candidate of that id'][min(problem)] AS problem
FROM wrong GROUP BY iteration, pair_id
