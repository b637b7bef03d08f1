"""The judge asked: by the steps, for a file of responses (`judge score`), and by prompt injections (`judge attack`)."""
