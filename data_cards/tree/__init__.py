"""Layout of a published repository: paths, Parquet files, trees."""
