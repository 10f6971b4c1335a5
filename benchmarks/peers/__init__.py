"""Other people's libraries, each behind what a benchmark needs of it."""
