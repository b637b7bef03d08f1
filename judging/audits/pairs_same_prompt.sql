-- name: pairs_same_prompt
-- group: contract
-- protects from: comparing answers to two different prompts, or training on texts that were not judged
-- severity: fail
-- needs: pairs, candidates
-- uses: prompts
SELECT 'pairs' AS dataset, p.iteration, pair_id AS id, CASE
    WHEN c.prompt_id <> p.prompt_id OR r.prompt_id <> p.prompt_id THEN 'an answer belongs to another prompt'
    WHEN p.prompt[-1].content <> q.prompt THEN 'the prompt is not the one of that id'
    ELSE 'a text is not the candidate of that id' END AS problem
FROM pairs p
JOIN candidates c ON c.iteration = p.iteration AND c.candidate_id = chosen_id
JOIN candidates r ON r.iteration = p.iteration AND r.candidate_id = rejected_id
LEFT JOIN prompts q ON q.iteration = p.iteration AND q.prompt_id = p.prompt_id
WHERE c.prompt_id <> p.prompt_id OR r.prompt_id <> p.prompt_id OR p.prompt[-1].content <> q.prompt
    OR p.chosen[-1].content IS DISTINCT FROM c.response OR p.rejected[-1].content IS DISTINCT FROM r.response
