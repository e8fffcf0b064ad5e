"""One HTML page of a set of document shards, to look at in a browser: nothing is loaded from elsewhere.

    python datasets/view.py FOLDER PAGE.html [--start 0] [--documents 20] [--id ID]

For a filtered or deduplicated set it also shows what each rule dropped, taken from the set it was made of while that is there.
"""

from itertools import islice
from pathlib import Path

from mmpt.data.lost import LOST_FILE, from_lines
from mmpt.data.page import EXAMPLES, render
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document
from mmpt.errors import DataError
from mmpt.scripts import main_guard, script_parser
from mmpt.storage import write_bytes


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a set of document shards")
    parser.add_argument("page", type=Path, metavar="PAGE.html", help="the page to write")
    parser.add_argument("--start", type=int, default=0, help="number of the first document shown")
    parser.add_argument("--documents", type=int, default=20, help="how many are shown")
    parser.add_argument("--id", help="show this document alone")
    arguments = parser.parse_args()
    shards = DocumentShards(arguments.folder)
    if arguments.id is not None:
        shown = [shards.find(arguments.id)]
    else:
        shown = [shards[n] for n in range(arguments.start, min(len(shards), arguments.start + arguments.documents))]
    path = arguments.folder / LOST_FILE
    lost = from_lines(path.read_bytes()) if path.exists() else []
    before = sources(shards.manifest.built.get("from", []), lost)
    write_bytes(arguments.page, render(str(arguments.folder), len(shards), shown, lost, before).encode())
    print(f"{arguments.page}: {len(shown)} documents, {len(lost)} things lost or dropped")


def sources(folders: list[str], lost: list) -> dict[str, Document]:
    """Documents of the sets that this one was made of, by id, of which something was dropped."""
    found: dict[str, Document] = {}
    for folder in folders:
        try:
            shards = DocumentShards(folder)
        except DataError:
            continue
        for rule in {one.rule for one in lost}:
            for one in islice((one for one in lost if one.rule == rule and one.document), EXAMPLES):
                try:
                    found[one.document] = shards.find(one.document)
                except DataError:
                    continue
    return found


if __name__ == "__main__":
    main()
