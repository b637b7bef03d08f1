-- name: judgements_cut_by_length
-- group: training
-- protects from: EFT rows that lose the score at their end, which teaches the judge to give none
-- severity: fail
-- needs: token_counts, eft
SELECT dataset, iteration, id, n_tokens, limit_tokens, outcome FROM token_counts
WHERE dataset = 'eft' AND outcome <> 'fits' ORDER BY n_tokens DESC, id
