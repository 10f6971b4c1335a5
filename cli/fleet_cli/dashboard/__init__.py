"""``fleet dashboard``: one job as a page on this machine. It reads with the user's own rights."""
