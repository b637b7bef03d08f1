-- name: injection_chosen
-- group: judge
-- protects from: training towards answers that speak to the judge instead of the user
-- severity: fail
-- needs: pairs, scores
--
-- The flag is that of judging/prompts/injection.py, set when the candidate was judged.
SELECT 'pairs' AS dataset, p.iteration, pair_id AS id, chosen_id, chosen[-1].content AS chosen
FROM pairs p JOIN scores s ON s.iteration = p.iteration AND s.candidate_id = chosen_id WHERE s.injection_suspected
