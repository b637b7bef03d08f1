"""ms-swift: `load_dataset` (strict) and the template's `encode`; `settings` may hold `columns`."""

from reader import main, trained_part
from swift.dataset import load_dataset
from swift.model import get_processor
from swift.template import get_template


def read(file, tokenizer, settings):
    made, _ = load_dataset(
        [str(file)], strict=True, num_proc=1, load_from_cache_file=False, columns=settings.get("columns")
    )
    processor = get_processor(tokenizer, model_type="llama")
    template = get_template(processor, template_type="chatml")
    template.set_mode(settings["mode"])
    inner = template.tokenizer
    rows = []
    for row in made:
        encoded = template.encode(row)
        if settings["mode"] == "rlhf":
            prompt, chosen = trained_part(inner, encoded["chosen_input_ids"], encoded["chosen_labels"])
            other, rejected = trained_part(inner, encoded["rejected_input_ids"], encoded["rejected_labels"])
            assert prompt == other
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        else:
            names = (
                ("chosen_input_ids", "chosen_labels")
                if settings["mode"] == "kto"
                else ("input_ids", "labels")
            )
            prompt, completion = trained_part(inner, *(encoded[name] for name in names))
            rows.append({"prompt": prompt, "completion": completion, "label": encoded.get("label")})
    return rows


if __name__ == "__main__":
    main(read)
