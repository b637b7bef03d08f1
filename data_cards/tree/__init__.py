"""What a published repository looks like: paths, Parquet files, trees."""
