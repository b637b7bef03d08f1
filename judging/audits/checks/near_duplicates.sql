-- name: near_duplicates
-- group: data
-- protects from: training on the same text with a word changed, within and across datasets
-- severity: warn
-- threshold: at most 0.01
-- figure: share of prompts and of positive answers that nearly repeat another (MinHash, Jaccard 0.8 of runs of 5 words)
-- needs: near_duplicates
-- uses: ift, eft, pairs
SELECT (SELECT count(*) FROM near_duplicates) / nullif((SELECT count(*) FROM ift) * 2 + (SELECT count(*) FROM pairs) * 2
    + (SELECT count(DISTINCT prompt_id) FROM eft WHERE split = 'train' AND accepted), 0) AS figure;
SELECT * FROM near_duplicates ORDER BY similarity DESC, dataset, id
