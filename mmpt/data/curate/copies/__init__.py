"""What finds copies among documents of any number: signatures and buckets on disk, pairs of alike ones, what goes of them."""
