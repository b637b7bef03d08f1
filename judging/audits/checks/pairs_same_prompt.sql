-- name: pairs_same_prompt
-- group: contract
-- protects from: comparing answers to two different prompts, or training on texts that were not judged
-- severity: fail
-- needs: pairs, candidates, pair_sides
-- uses: prompts
WITH wrong AS (
    SELECT iteration, pair_id, if(other_prompt, 1, 3) AS problem FROM pair_sides WHERE other_prompt OR other_text
    UNION ALL
    SELECT iteration, pair_id, 2 FROM pairs p JOIN prompts q USING (iteration, prompt_id)
    WHERE p.prompt[-1].content <> q.prompt
)
SELECT 'pairs' AS dataset, iteration, pair_id AS id, ['an answer belongs to another prompt',
    'the prompt is not the one of that id', 'a text is not the candidate of that id'][min(problem)] AS problem
FROM wrong GROUP BY iteration, pair_id
