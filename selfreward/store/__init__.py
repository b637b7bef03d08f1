"""Versioned Arrow datasets on disk: a version is whole or not there, and every read is verified.

    run = Run.create(Path("runs/demo"))        # run.py: the door to everything else

Below it, from the disk upwards: `durable` (write, rename, fsync), `sealed` (files with their own hash), `owner` and
`lock` (who works here), `state` (run.json), `names`, `recipe` (keys), `contenthash`, `writer`, `version`, `journal`, `gc`,
`verify`, `exchange` (import and export).
"""
