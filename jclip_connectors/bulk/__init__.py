"""Work in bulk: vectors of many pictures and texts in Parquet files, and files of vectors into any store."""
