-- name: judgements_cut_by_length
-- group: training
-- protects from: EFT rows and pairs of judgements that lose the score at their end, which teaches the judge to give none
-- severity: fail
-- needs: token_counts
-- uses: eft, judge_pairs
SELECT dataset, iteration, id, n_tokens, limit_tokens, outcome FROM token_counts
WHERE dataset IN ('eft', 'judge_pairs') AND outcome <> 'fits' ORDER BY n_tokens DESC, id
