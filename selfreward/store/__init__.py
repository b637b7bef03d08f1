"""Versioned Arrow datasets on disk: a version is whole or not there, and every read is verified.

    run = Run.create(Path("runs/demo"))        # run.py: the entry point

Below it, from the disk upwards: `durable` (write, rename, fsync), `sealed` (files that carry their own hash), `owner` and
`lock` (which process holds the run), `state` (run.json), `names`, `recipe` (keys), `foreign` (shapes of sealed files),
`contenthash`, `writer`, `version`, `journal`, `gc`, `verify`.
"""
