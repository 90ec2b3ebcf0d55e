"""Cleans the raw books and splits them into training, validation and test documents.

    python3 corpus.py DIR

Reads DIR/raw/*.txt (see fetch_corpus), writes DIR/{train,valid,test}.jsonl, one document a line:
{"source": "austen" | "melville" | "kjv", "book": ..., "text": ...}, and prints their sizes.

A document is a chapter (or, in a held-out part, what a block holds of it). Hard line breaks inside
paragraphs are undone; paragraphs are separated by a blank line; chapter headings, the marks of
emphasis and everything that is not the book itself (Gutenberg's header and licence) are dropped.

Split: the paragraphs of each book are cut into 100 contiguous pieces of equal size; pieces 20 and
70 are for validation, 45 and 90 for test, the rest for training. Nothing is fitted on a held-out
piece, the tokenizer included.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

PIECES = 100
VALID_PIECES = {20, 70}
TEST_PIECES = {45, 90}

AUSTEN = (
    "emma",
    "mansfieldpark",
    "northangerabbey",
    "persuasion",
    "prideprejudice",
    "sensesensibility",
)

AUSTEN_HEADING = re.compile(r"(?:chapter|volume)\s+[ivxlc\d]+\.?", re.IGNORECASE)
AUSTEN_ENDINGS = {"FINIS", "Finis", "THE END"}
MELVILLE_HEADING = re.compile(r"(?:CHAPTER \d+\. .*|Epilogue)")
KJV_LINE = re.compile(r"(\d?[A-Za-z]+\d+):\d+ (.*)")


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of a book, with the number of its chapter."""

    chapter: int
    text: str


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file without byte order mark, carriage returns or trailing blanks."""
    text = path.read_text(encoding="utf-8-sig").replace("\r", "")
    return [line.rstrip() for line in text.split("\n")]


def plain(text: str) -> str:
    """One paragraph on one line: blanks collapsed, marks of emphasis dropped."""
    return re.sub(r"\s+", " ", text.replace("_", "")).strip()


def paragraphs_of_chapters(lines: list[str], heading: re.Pattern[str]) -> list[Paragraph]:
    """Paragraphs, ended by blank lines; what precedes the first heading is front matter."""
    out: list[Paragraph] = []
    chapter = 0
    block: list[str] = []

    def flush() -> None:
        text = plain(" ".join(block))
        block.clear()
        if chapter > 0 and text:
            out.append(Paragraph(chapter, text))

    for line in lines:
        if heading.fullmatch(line.strip()):
            flush()
            chapter += 1
        elif not line.strip():
            flush()
        else:
            block.append(line)
    flush()
    return out


def austen(path: Path) -> list[Paragraph]:
    """One of Austen's novels: cut at its closing line, without the notes of editors."""
    lines = read_lines(path)
    ends = [i for i, line in enumerate(lines) if line.strip() in AUSTEN_ENDINGS]
    notes = [i for i, line in enumerate(lines) if line.strip() == "A NOTE ON THE TEXT"]
    cut = min(ends[-1:] + notes[-1:] + [len(lines)])
    kept = [line for line in lines[:cut] if not re.fullmatch(r"\s*\[.*", line)]
    return paragraphs_of_chapters(kept, AUSTEN_HEADING)


def melville(path: Path) -> list[Paragraph]:
    """Moby Dick without Gutenberg's header and licence and without the etymology and extracts."""
    lines = read_lines(path)
    end = next(i for i, line in enumerate(lines) if line.startswith("End of Project Gutenberg"))
    start = next(i for i, line in enumerate(lines) if line.startswith("CHAPTER 1. "))
    return paragraphs_of_chapters(lines[start:end], MELVILLE_HEADING)


def kjv(path: Path) -> list[Paragraph]:
    """The King James Bible: a verse is a paragraph here, joined to running prose by `document`."""
    out: list[Paragraph] = []
    chapter, last = 0, ""
    for line in read_lines(path):
        if not line:
            continue
        match = KJV_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}: not a verse: {line!r}")
        if match.group(1) != last:
            chapter, last = chapter + 1, match.group(1)
        out.append(Paragraph(chapter, plain(match.group(2))))
    return out


def split_of(position: float) -> str:
    """The split that owns the piece at a relative position in [0, 1) of a book."""
    piece = int(position * PIECES)
    if piece in VALID_PIECES:
        return "valid"
    return "test" if piece in TEST_PIECES else "train"


def documents(source: str, book: str, paragraphs: list[Paragraph]) -> list[tuple[str, dict]]:
    """(split, document) pairs of one book; a new document starts where chapter or split changes."""
    joint = " " if source == "kjv" else "\n\n"
    total = sum(len(p.text) for p in paragraphs)
    out: list[tuple[str, dict]] = []
    key, texts, done = None, [], 0
    for paragraph in [*paragraphs, None]:
        new = None if paragraph is None else (split_of(done / total), paragraph.chapter)
        if new != key and texts:
            out.append((key[0], {"source": source, "book": book, "text": joint.join(texts)}))
            texts = []
        if paragraph is None:
            break
        key = new
        texts.append(paragraph.text)
        done += len(paragraph.text)
    return out


def main() -> None:
    """Builds the three splits and prints their sizes."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = Path(sys.argv[1])
    books = [("austen", name, austen(root / "raw" / f"{name}.txt")) for name in AUSTEN]
    books.append(("melville", "mobydick", melville(root / "raw" / "mobydick.txt")))
    books.append(("kjv", "kjv", kjv(root / "raw" / "kjv.txt")))

    splits: dict[str, list[dict]] = {"train": [], "valid": [], "test": []}
    for source, book, paragraphs in books:
        for split, document in documents(source, book, paragraphs):
            splits[split].append(document)
    for split, docs in splits.items():
        with (root / f"{split}.jsonl").open("w", encoding="utf-8") as out:
            for document in docs:
                out.write(json.dumps(document, ensure_ascii=False) + "\n")
        for source in ("austen", "melville", "kjv"):
            texts = [d["text"] for d in docs if d["source"] == source]
            size = sum(len(t.encode()) for t in texts)
            words = sum(len(t.split()) for t in texts)
            print(f"{split:5} {source:8} {len(texts):5} documents {words:8} words {size:9} bytes")


if __name__ == "__main__":
    main()
