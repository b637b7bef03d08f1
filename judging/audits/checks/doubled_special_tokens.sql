-- name: doubled_special_tokens
-- group: training
-- protects from: two begin tokens in a row or two end tokens: the template and the tokenizer both add one
-- severity: fail
-- threshold: at most 0.01
-- figure: share of the tokenised rows with a doubled begin or end token
-- needs: token_counts
-- uses: ift, eft, pairs, judge_pairs
SELECT iteration, dataset AS detail, avg((doubled_begin OR doubled_end)::INT) AS figure FROM token_counts GROUP BY ALL;
SELECT dataset, iteration, id, doubled_begin, doubled_end FROM token_counts WHERE doubled_begin OR doubled_end
ORDER BY ALL
