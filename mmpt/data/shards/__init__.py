"""Sets of WebDataset tars with an index beside each and one manifest: written whole, read by number, checked by `lint`."""
