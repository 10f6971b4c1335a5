"""Tables like those of SOP and LWD, on a virtual clock (see docs/papers.md)."""
