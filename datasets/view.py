"""One HTML page of a set of document shards, to look at in a browser: nothing is loaded from elsewhere.

    python datasets/view.py FOLDER PAGE.html [--start 0] [--documents 20] [--id ID]

Of a set of any size just what is shown is read: the index says where it lies. For a filtered or deduplicated set the page also
shows what each rule dropped, taken from the set it was made of while that is there. Both may be URLs that fsspec knows.
"""

from mmpt.data.lost import LostSum, read_lost
from mmpt.data.page import EXAMPLES, render
from mmpt.data.shards.read import DocumentShards
from mmpt.data.store import write_file
from mmpt.document import Document
from mmpt.errors import DataError
from mmpt.scripts import main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="a set of document shards, a folder or a URL")
    parser.add_argument("page", metavar="PAGE.html", help="the page to write")
    parser.add_argument("--start", type=int, default=0, help="number of the first document shown, below 0: counted from the end")
    parser.add_argument("--documents", type=int, default=20, help="how many are shown")
    parser.add_argument("--id", help="show this document alone")
    arguments = parser.parse_args()
    shards = DocumentShards(arguments.folder)
    start, stop, _ = slice(arguments.start, None).indices(len(shards))
    if arguments.id is not None:
        shown = [shards.find(arguments.id)]
    else:
        shown = [shards[number] for number in range(start, min(stop, start + arguments.documents))]
    lost = LostSum(read_lost(shards.store), EXAMPLES)
    before = sources(shards.manifest.built.get("from", []), lost)
    page = render(arguments.folder, len(shards), shown, lost, before, start if arguments.id is None else None)
    write_file(arguments.page, page.encode())
    print(f"{arguments.page}: {len(shown)} documents, {lost.counts.total()} things lost or dropped")
    if arguments.id is None and start + len(shown) < len(shards):
        print(f"the next of {len(shards):,} with --start {start + len(shown)}")


def sources(folders: list[str], lost: LostSum) -> dict[str, Document]:
    """Documents of the sets that this one was made of, by id, of which something was dropped."""
    found: dict[str, Document] = {}
    for folder in folders:
        try:
            shards = DocumentShards(folder)
        except DataError:
            continue
        for one in (one for examples in lost.examples.values() for one in examples if one.document):
            try:
                found[one.document] = shards.find(one.document)
            except DataError:
                continue
    return found


if __name__ == "__main__":
    main()
