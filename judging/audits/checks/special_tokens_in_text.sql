-- name: special_tokens_in_text
-- group: training
-- protects from: texts that spell one of the tokenizer's special tokens and so become it, ending a turn early
-- severity: warn
-- needs: training_texts, special_tokens
-- uses: ift, eft, pairs
SELECT dataset, iteration, id, part, token FROM training_texts JOIN special_tokens ON contains(text, token)
