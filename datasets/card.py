"""The card of a set of shards: licences, sources, counts, what went by which rule, examples, fingerprint.

    python datasets/card.py SET [CARD.md] [--title NAME] [--examples 3]

Without CARD.md it is printed. As README.md beside the shards it is what the hub of Hugging Face shows, and whose header it reads.
What the set was made of is told from its own manifest, so it holds for sets that were selected, deduplicated or joined, too.
"""

from mmpt.data.card import card
from mmpt.data.store import write_file
from mmpt.scripts import main_guard, script_parser


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("set", metavar="SET", help="a set of document or token shards, a folder or a URL")
    parser.add_argument("card", nargs="?", metavar="CARD.md", help="the file to write, a path or a URL")
    parser.add_argument("--title", default="", help="what the set is called; by default as its folder")
    parser.add_argument("--examples", type=int, default=3, help="how many documents are shown")
    arguments = parser.parse_args()
    text = card(arguments.set, arguments.title, arguments.examples)
    if arguments.card is None:
        print(text)
        return
    write_file(arguments.card, text.encode())
    print(f"{arguments.card}: {len(text):,} characters")


if __name__ == "__main__":
    main()
